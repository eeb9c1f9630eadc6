//! Splitting of SQL text into statements.

/// The statements of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// The statements that end with a semicolon, without it. Empty statements are left out.
    pub statements: Vec<&'a str>,
    /// The text after the last semicolon; empty if it consists of white space and comments. It ends as the text does,
    /// because it may end within a string.
    pub rest: &'a str,
}

/// Splits a text at its semicolons, except for those in quotes and comments.
pub fn split(text: &str) -> Split<'_> {
    let mut statements = Vec::new();
    let (mut start, mut at, mut blank) = (0, 0, true);
    while at < text.len() {
        let part = &text[at..];
        let (skipped, is_open) = comment(part);
        if skipped > 0 {
            at += skipped;
            blank &= !is_open;
            continue;
        }
        if part.starts_with(';') {
            if !blank {
                statements.push(text[start..at].trim());
            }
            (start, at, blank) = (at + 1, at + 1, true);
            continue;
        }
        let length = quoted(part);
        blank &= part[..length].trim().is_empty();
        at += length;
    }
    Split { statements, rest: if blank { "" } else { text[start..].trim_start() } }
}

/// The length of the comment at the start of the text, 0 if there is none, and whether it is a block comment that is not
/// closed and extends to the end of the text.
fn comment(text: &str) -> (usize, bool) {
    if text.starts_with("--") {
        return (text.find('\n').unwrap_or(text.len()), false);
    }
    if !text.starts_with("/*") {
        return (0, false);
    }
    let (mut depth, mut at) = (0, 0);
    loop {
        let part = &text[at..];
        if part.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if part.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return (at, false);
            }
        } else {
            match part.chars().next() {
                Some(character) => at += character.len_utf8(),
                None => return (at, true),
            }
        }
    }
}

/// The length of the quoted string at the start of the text, or of the first character if it is not a quote. An
/// unterminated string extends to the end of the text.
fn quoted(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    let closing = match first {
        // A doubled quote is treated as the end of one string and the start of another.
        '\'' | '"' => text[1..].find(first).map(|at| at + 2),
        '$' => dollar_quoted(text),
        _ => return first.len_utf8(),
    };
    match (first, closing) {
        (_, Some(length)) => length,
        ('$', None) => 1,
        _ => text.len(),
    }
}

/// The length of a dollar-quoted string, `$tag$…$tag$`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag = &text[..text[1..].find('$')? + 2];
    let name = &tag[1..tag.len() - 1];
    if name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(|c| c.is_alphanumeric() || c == '_')
    {
        return None;
    }
    Some(text[tag.len()..].find(tag).map_or(text.len(), |at| at + 2 * tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, statements: &[&str], rest: &str) {
        assert_eq!(split(text), Split { statements: statements.to_vec(), rest }, "{text:?}");
    }

    #[test]
    fn statements_end_at_semicolons() {
        check("", &[], "");
        check(" ; ;\n", &[], "");
        check("SELECT 1", &[], "SELECT 1");
        check("SELECT 1;SELECT 2;\n SELECT", &["SELECT 1", "SELECT 2"], "SELECT");
    }

    #[test]
    fn quotes_and_comments_hide_semicolons() {
        check("SELECT ';', \"a;b\", 'it''s;';", &["SELECT ';', \"a;b\", 'it''s;'"], "");
        check("SELECT 'open; ", &[], "SELECT 'open; ");
        check("SELECT 1 -- one; two\n;", &["SELECT 1 -- one; two"], "");
        check("-- only; this", &[], "");
        check("/* a; /* b; */ c; */ SELECT 1;", &["/* a; /* b; */ c; */ SELECT 1"], "");
        check("SELECT 1 /* open;", &[], "SELECT 1 /* open;");
        check("/* open;\n", &[], "/* open;\n");
        check("/* open; /* nested */", &[], "/* open; /* nested */");
        check("/*/", &[], "/*/");
        check("/* open;\n*/", &[], "");
        check("SELECT $$a;b$$, $t$c;$$;$t$, $1;", &["SELECT $$a;b$$, $t$c;$$;$t$, $1"], "");
        check("SELECT '\u{e9};';", &["SELECT '\u{e9};'"], "");
    }
}
