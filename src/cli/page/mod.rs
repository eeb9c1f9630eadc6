//! Pages that a browser shows without a network: their shell, their style and their charts.

mod chart;

use std::fmt::{self, Display, Write};

pub use chart::{Bar, ChartError, Line, Lines, Mark, Scale, Weight, bars, css_colour, lines, round_step};

/// A page from its title and the HTML of its body. It refers to nothing outside itself, and its content
/// security policy allows nothing else: no script, no request.
pub fn page(title: &str, body: &str) -> String {
    let title = Escaped(title);
    let style = include_str!("style.css");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

/// What stands where there is no value.
pub fn missing() -> String {
    "–".to_owned()
}

/// The names of what is compared, each with its colour.
pub fn legend<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut html = "<p class=\"legend\">".to_owned();
    for (at, name) in names.into_iter().enumerate() {
        let _ = write!(html, "<span>{}{}</span>", Key(at), Escaped(name));
    }
    html + "</p>\n"
}

/// A chart with a caption, which is also what a screen reader says of it.
pub fn figure(caption: &str, svg: &str) -> String {
    let caption = Escaped(caption);
    format!("<figure role=\"img\" aria-label=\"{caption}\">\n<figcaption>{caption}</figcaption>\n{svg}</figure>\n")
}

/// A square of the colour of what stands at this place.
pub struct Key(pub usize);

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<i class=\"key\" style=\"background:{}\"></i>", css_colour(self.0))
    }
}

/// Text that means itself.
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_themselves() {
        assert_eq!(Escaped("<a href=\"x\">&").to_string(), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert!(page("<b>", "").contains("<title>&lt;b&gt;</title>"));
        assert!(figure("p99 < 1 s", "").contains("aria-label=\"p99 &lt; 1 s\""));
    }
}
