//! Access to the values of a mapping by key, which collects problems.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::{Content, Node, same_key};
use super::number;
use super::problem::{Problem, SourceLocation};
use crate::load::duration::parse_duration;

/// The problems and warnings of a configuration.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

/// A mapping of the configuration. An absent section is an empty mapping.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    location: SourceLocation,
    pairs: &'a [(String, Node)],
    read: Vec<Cell<bool>>,
    diagnostics: &'a Diagnostics,
}

impl<'a> Section<'a> {
    /// The top-level mapping.
    pub(super) fn root(node: &'a Node, diagnostics: &'a Diagnostics) -> Self {
        Self::new(String::new(), node, diagnostics)
    }

    fn new(path: String, node: &'a Node, diagnostics: &'a Diagnostics) -> Self {
        let pairs: &[(String, Node)] = match &node.content {
            Content::Map(pairs) => pairs,
            Content::Null => &[],
            other => {
                let value = displayed(&path, other);
                diagnostics.problems.borrow_mut().push(Problem::new(&node.location, &path, value, "must be a mapping"));
                &[]
            }
        };
        let read = pairs.iter().map(|_| Cell::new(false)).collect();
        Self { path, location: node.location.clone(), pairs, read, diagnostics }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The node of a key, `None` if it is absent or null. Marks the key as known.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        let index = self.pairs.iter().position(|(key, _)| same_key(key, name))?;
        self.read[index].set(true);
        let node = &self.pairs[index].1;
        (!matches!(node.content, Content::Null)).then_some(node)
    }

    /// Adds a problem of a key at its location, or at that of the section if the key is absent.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>) {
        let node = self.pairs.iter().find(|(key, _)| same_key(key, name)).map(|(_, node)| node);
        let key = self.key(name);
        let value = node.map_or("", |node| displayed(&key, &node.content));
        self.diagnostics.problems.borrow_mut().push(Problem::new(self.place_of(name), &key, value, message));
    }

    /// The section of a key.
    pub(super) fn section(&self, name: &str) -> Section<'a> {
        match self.get(name) {
            Some(node) => Section::new(self.key(name), node, self.diagnostics),
            None => Section {
                path: self.key(name),
                location: self.location.clone(),
                pairs: &[],
                read: Vec::new(),
                diagnostics: self.diagnostics,
            },
        }
    }

    /// The sections of a key whose value is a list of mappings.
    pub(super) fn sections(&self, name: &str) -> Vec<Section<'a>> {
        let section = |(index, node): (usize, &'a Node)| {
            Section::new(format!("{}[{index}]", self.key(name)), node, self.diagnostics)
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

    /// The strings of a list, or a single string.
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
                _ => self.problem(name, "must be a list of strings"),
            }
        }
        texts
    }

    /// All keys with their scalar values. Marks all keys as known.
    pub(super) fn pairs(&self) -> Vec<(&'a str, String)> {
        let mut texts = Vec::new();
        for (index, (key, node)) in self.pairs.iter().enumerate() {
            self.read[index].set(true);
            match &node.content {
                Content::Scalar(text) => texts.push((key.as_str(), text.clone())),
                Content::Null => texts.push((key.as_str(), String::new())),
                _ => self.problem(key, "must be a string"),
            }
        }
        texts
    }

    /// The scalar value of a key.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match &self.get(name)?.content {
            Content::Scalar(text) => Some(text),
            _ => {
                self.problem(name, "must be a single value");
                None
            }
        }
    }

    /// The scalar value of a key, which must not be absent or empty.
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
            Some(text) if ["true", "t", "1"].iter().any(|form| text.eq_ignore_ascii_case(form)) => true,
            Some(text) if ["false", "f", "0"].iter().any(|form| text.eq_ignore_ascii_case(form)) => false,
            Some(_) => {
                self.problem(name, "must be true or false");
                false
            }
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let text = self.text(name)?;
        if let Some(nanos) = number::whole(text) {
            return Some(Duration::from_nanos(nanos));
        }
        parse_duration(text).map_err(|error| self.problem(name, error.to_string())).ok()
    }

    /// A non-negative integer.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        let number = number::whole(self.text(name)?);
        if number.is_none() {
            self.problem(name, "must be a non-negative integer");
        }
        number
    }

    /// A number from 0 to 1.
    pub(super) fn proportion(&self, name: &str) -> f64 {
        self.number(name, 0.0..=1.0).unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let number = number::float(self.text(name)?).filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(name, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A list of non-negative integers.
    pub(super) fn counts(&self, name: &str) -> Vec<u64> {
        let mut counts = Vec::new();
        for text in self.texts(name) {
            match number::whole(&text).filter(|&count| count <= u32::MAX.into()) {
                Some(count) => counts.push(count),
                None => self.problem(name, format!("{text:?} must be a non-negative integer")),
            }
        }
        counts
    }

    /// Adds a warning for each key that has not been read.
    pub(super) fn warn_of_unknown_keys(&self) {
        for ((key, node), read) in self.pairs.iter().zip(&self.read) {
            // Other programs of Armada have variables with the same prefix.
            let of_others = self.path.is_empty() && node.location.is_variable();
            if !read.get() && !of_others {
                self.warn(key, "is an unknown key and is ignored");
            }
        }
    }

    /// Warns of those of the named keys that the section has.
    pub(super) fn warn_of_keys(&self, names: &[&str], message: &str) {
        for (key, _) in self.pairs.iter().filter(|(key, _)| names.iter().any(|name| same_key(key, name))) {
            self.warn(key, message);
        }
    }

    /// Adds a warning of a key at its location, or at that of the section if the key is absent.
    pub(super) fn warn(&self, name: &str, message: impl Into<String>) {
        let problem = Problem::new(self.place_of(name), &self.key(name), "", message);
        self.diagnostics.warnings.borrow_mut().push(problem);
    }

    fn place_of(&self, name: &str) -> &SourceLocation {
        self.pairs.iter().find(|(key, _)| same_key(key, name)).map_or(&self.location, |(_, node)| &node.location)
    }
}

/// The value of a key for a problem: empty for values that may be secrets, and for lists and mappings. Any value of the
/// database may be a secret, because an address with a password may be the value of a wrong key.
fn displayed<'a>(key: &str, content: &'a Content) -> &'a str {
    let is_shown =
        |text: &str| !key.starts_with("databaseConfig") || key.ends_with(".port") && text.parse::<u16>().is_ok();
    match content {
        Content::Scalar(text) if is_shown(text) => text,
        _ => "",
    }
}
