//! A YAML document as a tree of nodes with source locations.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::problem::{Problem, SourceLocation};

/// A node of a configuration, which may be merged from several files.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) location: SourceLocation,
    pub(super) content: Content,
    /// Whether the value was found to be invalid.
    pub(super) is_refused: Cell<bool>,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Null,
    /// A scalar as written, because a password may look like a number: `007`.
    Scalar(String),
    List(Vec<Node>),
    /// A mapping with its keys as written.
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(location: SourceLocation, content: Content) -> Self {
        Self { location, content, is_refused: Cell::new(false) }
    }

    /// Parses a file. An empty file is an empty mapping.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let file: Arc<str> = file.into();
        let whole = SourceLocation { file: file.clone(), line: 1 };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::new(whole, Content::Map(Vec::new())));
        }
        let options = serde_saphyr::options! { with_snippet: false };
        let raw: Spanned<RawNode> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            Problem::new(&SourceLocation { file: file.clone(), line }, "", "", error.without_snippet().to_string())
        })?;
        let node = Self::from_raw(raw, &file, text);
        match node.content {
            Content::Map(_) => Ok(node),
            _ => Err(Problem::new(&whole, "", "", "must be a mapping of sections")),
        }
    }

    fn from_raw(raw: Spanned<RawNode>, file: &Arc<str>, text: &str) -> Self {
        // For aliases and merged values, the location of the definition.
        let location = SourceLocation { file: file.clone(), line: raw.defined.line() };
        let content = match raw.value {
            RawNode::Null => Content::Null,
            RawNode::Text(text) => Content::Scalar(text),
            RawNode::Plain(read) => Content::Scalar(written(raw.defined, text).map_or(read, str::to_owned)),
            RawNode::List(nodes) => {
                Content::List(nodes.into_iter().map(|node| Self::from_raw(node, file, text)).collect())
            }
            RawNode::Map(pairs) => {
                Content::Map(pairs.into_iter().map(|(key, node)| (key, Self::from_raw(node, file, text))).collect())
            }
        };
        Self::new(location, content)
    }

    /// The node of a key of a mapping.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        let Content::Map(pairs) = &self.content else { return None };
        pairs.iter().find(|(key, _)| same_key(key, name)).map(|(_, node)| node)
    }

    /// Removes a key of a mapping.
    pub(super) fn remove(&mut self, name: &str) -> Option<Self> {
        let Content::Map(pairs) = &mut self.content else { return None };
        let index = pairs.iter().position(|(key, _)| same_key(key, name))?;
        Some(pairs.remove(index).1)
    }

    /// Merges a later file: mappings are merged key by key, other values are replaced.
    pub(super) fn merge(&mut self, later: Self) {
        match (&mut self.content, later.content) {
            (Content::Map(pairs), Content::Map(later)) => {
                for (key, node) in later {
                    match pairs.iter_mut().find(|(other, _)| same_key(other, &key)) {
                        Some((_, earlier)) => earlier.merge(node),
                        None => pairs.push((key, node)),
                    }
                }
            }
            (content, later_content) => {
                *content = later_content;
                self.location = later.location;
            }
        }
    }
}

/// Compares two keys, ignoring case.
pub(super) fn same_key(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The source text of a scalar, if the parser provides its span.
fn written(location: Location, text: &str) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    Some(text.get(start..end)?.trim()).filter(|scalar| !scalar.is_empty())
}

/// A node as parsed.
enum RawNode {
    Null,
    /// A string.
    Text(String),
    /// A number or boolean, formatted from its parsed value.
    Plain(String),
    List(Vec<Spanned<RawNode>>),
    Map(Vec<(String, Spanned<RawNode>)>),
}

/// Visits a number or boolean.
macro_rules! plain {
    ($($visit:ident: $value:ty),*) => {$(
        fn $visit<E>(self, value: $value) -> Result<RawNode, E> {
            Ok(RawNode::Plain(value.to_string()))
        }
    )*};
}

impl<'de> Deserialize<'de> for RawNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = RawNode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar, a list or a mapping")
            }

            fn visit_unit<E>(self) -> Result<RawNode, E> {
                Ok(RawNode::Null)
            }

            fn visit_none<E>(self) -> Result<RawNode, E> {
                Ok(RawNode::Null)
            }

            fn visit_str<E>(self, text: &str) -> Result<RawNode, E> {
                Ok(RawNode::Text(text.to_owned()))
            }

            plain! {
                visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawNode, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(RawNode::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawNode, A::Error> {
                let mut pairs: Vec<(String, Spanned<RawNode>)> = Vec::new();
                while let Some((key, value)) = entries.next_entry::<String, Spanned<RawNode>>()? {
                    // Merged keys follow those of the mapping itself and do not override them.
                    let merged = value.referenced != value.defined;
                    match pairs.iter().find(|(other, _)| same_key(other, &key)) {
                        Some(_) if merged => {}
                        Some((other, _)) => {
                            return Err(de::Error::custom(format!(
                                "the keys {other:?} and {key:?} differ only in case"
                            )));
                        }
                        None => pairs.push((key, value)),
                    }
                }
                Ok(RawNode::Map(pairs))
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}
