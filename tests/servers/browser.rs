//! Tests of the HTML reports in headless Chromium. Without Chromium the tests are ignored, or fail if `CI=true`.

use crate::support::run;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use broadside::load::RunRecord;
use libtest_mimic::{Failed, Trial};

/// The window widths of a desktop and a phone, in pixels.
const WIDTHS: [u32; 2] = [1280, 400];

/// A script that writes measurements of the laid out page to its title.
const PROBE: &str = "<script>addEventListener('load', () => {
    const width = document.documentElement.clientWidth;
    const charts = [...document.querySelectorAll('figure svg')];
    const drawn = charts.filter(chart => {
        const box = chart.getBoundingClientRect();
        return box.width > 100 && box.height > 60 && box.left >= 0 && box.right <= width + 1;
    });
    const small = charts.flatMap(chart => [...chart.querySelectorAll('text')])
        .filter(text => text.textContent.trim() && text.getBoundingClientRect().height < 9);
    document.title = ['probe', width, document.documentElement.scrollWidth, charts.length, drawn.length, small.length].join(' ');
})</script>";

pub fn trials() -> Vec<Trial> {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| is_installed(name));
    let missing = chromium.is_none() && std::env::var("CI").as_deref() != Ok("true");
    let trial = |name: &str, check: fn(&str) -> Result<(), Failed>| {
        let run = move || check(chromium.ok_or("Chromium is not installed")?);
        Trial::test(name, run).with_ignored_flag(missing)
    };
    vec![
        trial("the_report_of_runs_fits_the_window", report_fits),
        trial("the_report_of_a_comparison_fits_the_window", comparison_fits),
        trial("script_errors_are_detected", script_errors_are_detected),
    ]
}

fn is_installed(name: &str) -> bool {
    let output = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

/// A separate, empty directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    std::fs::remove_dir_all(&path).ok();
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn broadside(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_broadside")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The measurements of a page in a browser.
struct Measurements {
    /// The width of the window and of the page, in pixels.
    window: u32,
    page: u32,
    /// The number of charts, of charts within the window, and of texts that are too small.
    charts: u32,
    drawn: u32,
    small: u32,
    /// The messages on the console.
    console: String,
}

/// Loads a page in a window of the given width and measures it.
fn measure(chromium: &str, page: &Path, width: u32, probe: &str) -> Result<Measurements, Failed> {
    let directory = page.parent().ok_or("the page is in no directory")?;
    // The content security policy of the page must be relaxed for the probe.
    let html = std::fs::read_to_string(page)?
        .replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';");
    let probed = directory.join(format!("probed-{width}.html"));
    std::fs::write(&probed, html.replace("</head>", &format!("{probe}</head>")))?;
    // The window has a minimum width, so a frame is used.
    let frame = directory.join(format!("frame-{width}.html"));
    let name = probed.file_name().ok_or("the page has no name")?.to_string_lossy();
    std::fs::write(&frame, format!("<!DOCTYPE html><iframe src=\"{name}\" style=\"border:0;width:{width}px;height:900px\"></iframe>
        <script>const frame = document.querySelector('iframe');
        frame.onload = () => setTimeout(() => {{ document.body.dataset.found = frame.contentDocument.title }}, 100)</script>"))?;
    let profile = directory.join(format!("profile-{width}"));
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", frame.display()))
        .output()?;
    let dom = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let console = stderr.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    let found = dom.split("data-found=\"probe ").nth(1).and_then(|rest| rest.split('"').next());
    let found = found.ok_or_else(|| format!("the probe has not run: {dom}\n{stderr}"))?;
    let numbers: Vec<u32> = found.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [window, page, charts, drawn, small] = numbers[..] else { return Err(found.into()) };
    Ok(Measurements { window, page, charts, drawn, small, console })
}

fn fits(chromium: &str, page: &Path, charts: u32) -> Result<(), Failed> {
    for width in WIDTHS {
        let found = measure(chromium, page, width, PROBE)?;
        assert_eq!(found.console, "", "{width} px");
        assert!(found.window <= width && found.page <= found.window, "{width} px: the page is {} px wide", found.page);
        assert_eq!((found.charts, found.drawn), (charts, charts), "{width} px");
        assert_eq!(found.small, 0, "{width} px: texts too small to read");
    }
    Ok(())
}

fn report_fits(chromium: &str) -> Result<(), Failed> {
    let directory = directory("report");
    let written = |name: &str, record: &RunRecord| {
        let path = directory.join(name);
        std::fs::write(&path, record.to_json().unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut untrusted = run::record("postgres", 900.0);
    untrusted.invalid.push("the p99 of the generator lag is 14 ms".to_owned());
    let files = [written("memory.json", &run::record("memory", 80.0)), written("postgres.json", &untrusted)];
    let page = directory.join("report.html");
    broadside(&["report", &files[0], &files[1], "--out", page.to_str().unwrap()]);
    fits(chromium, &page, 29)
}

fn comparison_fits(chromium: &str) -> Result<(), Failed> {
    let directory = directory("compare");
    let out = directory.to_str().unwrap();
    broadside(&[
        "compare",
        "--brief",
        "--jobs",
        "400",
        "--samples",
        "3",
        "--backend",
        "memory",
        "--backend",
        "memory",
        "--out",
        out,
    ]);
    // The bar charts are wider than a phone and have their own scroll bar.
    fits(chromium, &directory.join("report.html"), 0)
}

/// Checks that the tests detect errors on the console.
fn script_errors_are_detected(chromium: &str) -> Result<(), Failed> {
    let directory = directory("failing");
    let page = directory.join("page.html");
    std::fs::write(&page, "<!DOCTYPE html><html><head></head><body></body></html>")?;
    let probe = format!("{PROBE}<script>missing()</script>");
    let found = measure(chromium, &page, 400, &probe)?;
    assert!(found.console.contains("missing is not defined"), "{}", found.console);
    Ok(())
}
