//! Splitting of SQL text into statements.

/// The statements of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// The statements that end with a semicolon, without it. Empty statements are left out.
    pub statements: Vec<Part<'a>>,
    /// The text after the last semicolon; empty if it consists of white space and comments. It ends as the text does,
    /// because it may end within a string.
    pub rest: Part<'a>,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The text before the part.
    pub before: &'a str,
    pub text: &'a str,
}

impl<'a> Part<'a> {
    fn of(text: &'a str, start: usize, end: usize) -> Self {
        let start = end - text[start..end].trim_start().len();
        Self { before: &text[..start], text: &text[start..end] }
    }

    /// The part after blanks instead of the text before it, so that errors have its positions in the text.
    pub fn in_place(&self) -> String {
        let column = self.before.chars().rev().take_while(|&character| character != '\n').count();
        format!("{}{}{}", "\n".repeat(lines(self.before)), " ".repeat(column), self.text)
    }
}

/// The number of complete lines of a text.
pub fn lines(text: &str) -> usize {
    text.matches('\n').count()
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
                statements.push(Part::of(text, start, text[..at].trim_end().len()));
            }
            (start, at, blank) = (at + 1, at + 1, true);
            continue;
        }
        let length = quoted(part);
        blank &= part[..length].trim().is_empty();
        at += length;
    }
    let start = if blank { text.len() } else { start };
    Split { statements, rest: Part::of(text, start, text.len()) }
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
        let split = split(text);
        let found: Vec<&str> = split.statements.iter().map(|part| part.text).collect();
        assert_eq!((&found[..], split.rest.text), (statements, rest), "{text:?}");
        for part in split.statements.iter().chain([&split.rest]) {
            assert!(text[part.before.len()..].starts_with(part.text), "{text:?}");
        }
    }

    #[test]
    fn statements_end_at_semicolons() {
        check("", &[], "");
        check(" ; ;\n", &[], "");
        check("SELECT 1", &[], "SELECT 1");
        check("SELECT 1;SELECT 2;\n SELECT", &["SELECT 1", "SELECT 2"], "SELECT");
    }

    #[test]
    fn a_part_in_place_has_the_lines_and_columns_of_the_text() {
        let split = split("SELECT 1;\n '\u{e9}\u{e9}'; SELECT\n 2");
        assert_eq!(split.statements[1].in_place(), "\n '\u{e9}\u{e9}'");
        assert_eq!(split.rest.in_place(), "\n       SELECT\n 2");
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
