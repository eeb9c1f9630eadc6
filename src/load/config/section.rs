//! Reads the values of a mapping by key, and collects every problem on the way.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::{Content, Node, Place, same_key};
use super::problem::Problem;
use crate::load::duration::parse_duration;

/// The problems and warnings of a configuration so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

/// A mapping of the configuration; an absent one has no keys.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    place: Place,
    pairs: &'a [(String, Node)],
    read: Vec<Cell<bool>>,
    findings: &'a Findings,
}

impl<'a> Section<'a> {
    /// The mapping of the whole configuration.
    pub(super) fn root(node: &'a Node, findings: &'a Findings) -> Self {
        Self::new(String::new(), node, findings)
    }

    fn new(path: String, node: &'a Node, findings: &'a Findings) -> Self {
        let pairs: &[(String, Node)] = match &node.content {
            Content::Map(pairs) => pairs,
            Content::Null => &[],
            other => {
                let value = shown(&path, other);
                findings.problems.borrow_mut().push(Problem::new(&node.place, &path, value, "must be a mapping"));
                &[]
            }
        };
        let read = pairs.iter().map(|_| Cell::new(false)).collect();
        Self { path, place: node.place.clone(), pairs, read, findings }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The node of a key, which then is a known one; none for null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        let index = self.pairs.iter().position(|(key, _)| same_key(key, name))?;
        self.read[index].set(true);
        let node = &self.pairs[index].1;
        (!matches!(node.content, Content::Null)).then_some(node)
    }

    /// Adds a problem of a key, at its place, or at the section's if it is absent.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>) {
        let node = self.pairs.iter().find(|(key, _)| same_key(key, name)).map(|(_, node)| node);
        let place = node.map_or(&self.place, |node| &node.place);
        let key = self.key(name);
        let value = node.map_or("", |node| shown(&key, &node.content));
        self.findings.problems.borrow_mut().push(Problem::new(place, &key, value, message));
    }

    /// The section of a key, which may be absent.
    pub(super) fn section(&self, name: &str) -> Section<'a> {
        match self.get(name) {
            Some(node) => Section::new(self.key(name), node, self.findings),
            None => Section {
                path: self.key(name),
                place: self.place.clone(),
                pairs: &[],
                read: Vec::new(),
                findings: self.findings,
            },
        }
    }

    /// The sections of a list of mappings.
    pub(super) fn sections(&self, name: &str) -> Vec<Section<'a>> {
        let section = |(index, node): (usize, &'a Node)| {
            Section::new(format!("{}[{index}]", self.key(name)), node, self.findings)
        };
        self.list(name).iter().enumerate().map(section).collect()
    }

    fn list(&self, name: &str) -> &'a [Node] {
        match self.get(name).map(|node| &node.content) {
            None => &[],
            Some(Content::List(nodes)) => nodes,
            Some(_) => {
                self.problem(name, "must be a list");
                &[]
            }
        }
    }

    /// The texts of a list, or a single text.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let Some(node) = self.get(name) else { return Vec::new() };
        let nodes = match &node.content {
            Content::Scalar(text) => return vec![text.clone()],
            _ => self.list(name),
        };
        let mut texts = Vec::new();
        for node in nodes {
            match &node.content {
                Content::Scalar(text) => texts.push(text.clone()),
                _ => self.problem(name, "must be a list of texts"),
            }
        }
        texts
    }

    /// All keys with their texts, which makes every key a known one.
    pub(super) fn pairs(&self) -> Vec<(&'a str, String)> {
        let mut texts = Vec::new();
        for (index, (key, node)) in self.pairs.iter().enumerate() {
            self.read[index].set(true);
            match &node.content {
                Content::Scalar(text) => texts.push((key.as_str(), text.clone())),
                Content::Null => texts.push((key.as_str(), String::new())),
                _ => self.problem(key, "must be a text"),
            }
        }
        texts
    }

    /// The text of a key.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match &self.get(name)?.content {
            Content::Scalar(text) => Some(text),
            _ => {
                self.problem(name, "must be a single value");
                None
            }
        }
    }

    /// The text of a key that must be there.
    pub(super) fn required_text(&self, name: &str) -> String {
        let text = self.text(name).unwrap_or_default();
        if text.is_empty() {
            self.problem(name, "must not be empty");
        }
        text.to_owned()
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        match self.text(name) {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if text.eq_ignore_ascii_case("false") => false,
            Some(_) => {
                self.problem(name, "must be true or false");
                false
            }
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let text = self.text(name)?;
        parse_duration(text).map_err(|error| self.problem(name, error.to_string())).ok()
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
        if number.is_none() {
            self.problem(name, "must be a whole number, 0 or more");
        }
        number
    }

    /// A share of a whole.
    pub(super) fn proportion(&self, name: &str) -> f64 {
        self.number(name, 0.0..=1.0).unwrap_or_default()
    }

    fn number(&self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let number = self.text(name)?.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(name, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A list of whole numbers that are not negative.
    pub(super) fn counts(&self, name: &str) -> Vec<u64> {
        let mut counts = Vec::new();
        for text in self.texts(name) {
            match text.parse::<u32>() {
                Ok(count) => counts.push(count.into()),
                Err(_) => self.problem(name, format!("{text:?} must be a whole number, 0 or more")),
            }
        }
        counts
    }

    /// Warns of the keys that nothing read.
    pub(super) fn warn_of_unknown_keys(&self) {
        for ((key, node), read) in self.pairs.iter().zip(&self.read) {
            if !read.get() {
                let problem = Problem::new(&node.place, &self.key(key), "", "is no known key and is ignored");
                self.findings.warnings.borrow_mut().push(problem);
            }
        }
    }
}

/// A value as problems show it: nothing for one that is no scalar, or that may hold a password.
fn shown<'a>(key: &str, content: &'a Content) -> &'a str {
    const SHOWN_OF_DATABASE: [&str; 2] = [".host", ".port"];

    let of_database = key.starts_with("databaseConfig") && !SHOWN_OF_DATABASE.iter().any(|end| key.ends_with(end));
    match content {
        Content::Scalar(text) if !of_database => text,
        _ => "",
    }
}
