//! HTML reports: document, style sheet and charts.

mod chart;

use std::fmt::{self, Display, Write};

pub use chart::{BarRow, ChartError, Line, LineChart, Mark, Scale, Stroke, bars, css_colour, lines, round_step};

/// Renders an HTML document from a title and the HTML of the body. The document has no external references,
/// and its content security policy forbids scripts and requests.
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

/// The placeholder for a missing value.
pub fn missing() -> String {
    "–".to_owned()
}

/// The legend: each name with its colour.
pub fn legend<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut html = "<p class=\"legend\">".to_owned();
    for (at, name) in names.into_iter().enumerate() {
        let _ = write!(html, "<span>{}{}</span>", Swatch(at), Escaped(name));
    }
    html + "</p>\n"
}

/// A chart with a caption, which is also its accessible name.
pub fn figure(caption: &str, svg: &str) -> String {
    let caption = Escaped(caption);
    format!("<figure role=\"img\" aria-label=\"{caption}\">\n<figcaption>{caption}</figcaption>\n{svg}</figure>\n")
}

/// A square in the colour of the run or backend at an index.
pub struct Swatch(pub usize);

impl Display for Swatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<i class=\"key\" style=\"background:{}\"></i>", css_colour(self.0))
    }
}

/// Text with the special characters of HTML escaped.
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
    fn html_is_escaped() {
        assert_eq!(Escaped("<a href=\"x\">&").to_string(), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert!(page("<b>", "").contains("<title>&lt;b&gt;</title>"));
        assert!(figure("p99 < 1 s", "").contains("aria-label=\"p99 &lt; 1 s\""));
    }
}
