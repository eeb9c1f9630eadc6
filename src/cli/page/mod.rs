//! HTML reports: document, style sheet and charts.

mod chart;

use broadside::measure::Machine;
use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use super::format;
use super::table::MISSING;
pub use chart::{BarRow, Line, LineChart, Mark, Scale, Stroke, bars, colour, lines, round_step};

/// Renders an HTML document from a title and a body. The document has no external references, and its content
/// security policy forbids scripts and requests.
pub fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { (title) }
                // Browsers decode no character references in a style element.
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                h1 { (title) }
                (body)
            }
        }
    }
}

/// Renders a value, or the placeholder for a missing one.
pub fn or_missing(value: Option<impl Render>) -> Markup {
    html! { @if let Some(value) = value { (value) } @else { (MISSING) } }
}

/// A table from the cells of its header and its rows, which scrolls if it is wider than the page.
pub fn table(class: &str, header: &Markup, rows: &Markup) -> Markup {
    html! {
        div.wide { table class=(class) { thead { tr { (header) } } (rows) } }
    }
}

/// A table of properties by name, with a column for each run.
pub fn table_by_run(heading: &str, names: &[String], rows: &[(Markup, Vec<Option<String>>)]) -> Markup {
    table(
        "text",
        &html! { th { (heading) } @for (at, name) in names.iter().enumerate() { th { (key(at, name)) } } },
        &html! {
            @for (name, values) in rows {
                tr {
                    td { (name) }
                    @for value in values { td { (or_missing(value.as_ref())) } }
                }
            }
        },
    )
}

/// The properties of a machine.
pub fn machine(machine: &Machine) -> String {
    let cores = machine.cores.map(|cores| format!("{cores} cores"));
    let memory = machine.memory_bytes.map(format::bytes);
    let parts = [Some(machine.system.clone()), machine.processor.clone(), cores, memory];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The name of the run or backend at an index, after a square in its colour.
pub fn key(at: usize, name: &str) -> Markup {
    html! { i.key style={ "background:" (colour(at)) } {} (name) }
}

/// The legend: each name with its colour.
pub fn legend(names: &[impl AsRef<str>]) -> Markup {
    html! {
        p.legend {
            @for (at, name) in names.iter().enumerate() { span { (key(at, name.as_ref())) } }
        }
    }
}

/// A chart with a caption, which is also its accessible name.
pub fn figure(caption: &str, svg: &Markup) -> Markup {
    html! {
        figure role="img" aria-label=(caption) {
            figcaption { (caption) }
            (svg)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert!(page("<b>", &html! {}).into_string().contains("<title>&lt;b&gt;</title>"));
        assert!(figure("p99 < 1 s", &html! {}).into_string().contains("aria-label=\"p99 &lt; 1 s\""));
        assert!(key(0, "<a href=\"x\">&").into_string().ends_with("</i>&lt;a href=&quot;x&quot;&gt;&amp;"));
    }

    #[test]
    fn the_style_sheet_and_charts_are_not_escaped() {
        assert!(page("", &html! {}).into_string().contains(".wide > svg {"));
        assert!(figure("", &PreEscaped("<svg></svg>".to_owned())).into_string().contains("<svg></svg></figure>"));
    }
}
