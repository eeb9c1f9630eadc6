//! Deserialization of the values of a configuration, which collects problems and warnings.

use std::cell::RefCell;
use std::vec::IntoIter;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::node::{Content, Node, same_key};
use super::number;
use super::problem::{Problem, SourceLocation};

/// The problems and warnings of a configuration.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

/// A value of the configuration with its path.
///
/// Structs are deserialized from mappings whose keys match without case, and unknown keys are warnings. A value that is
/// refused counts as absent.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    path: String,
    node: Option<&'a Node>,
    /// The location of the value; that of the mapping if the value is absent.
    location: &'a SourceLocation,
    /// Whether the value stands for a list of one.
    is_single: bool,
    diagnostics: &'a Diagnostics,
}

/// An error of deserialization.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The value is invalid, which is not reported yet.
    #[error("{0}")]
    Invalid(String),
    /// A part of the value is refused and reported.
    #[error("reported")]
    Reported,
}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Invalid(message.to_string())
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<_> = expected.iter().copied().filter(|name| !name.is_empty()).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        Self::Invalid(format!("must be {} or {last}", others.join(", ")))
    }
}

impl<'a> Value<'a> {
    /// A value with its path. `outer` is the location of the mapping that has or lacks it.
    pub(super) fn new(
        path: String,
        node: Option<&'a Node>,
        outer: &'a SourceLocation,
        diagnostics: &'a Diagnostics,
    ) -> Self {
        let location = node.map_or(outer, |node| &node.location);
        Self { path, node, location, is_single: false, diagnostics }
    }

    /// The value of a key.
    pub(super) fn key(&self, name: &str) -> Self {
        self.child(name, self.node.and_then(|node| node.child(name)))
    }

    fn child(&self, name: &str, node: Option<&'a Node>) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self::new(path, node, self.location, self.diagnostics)
    }

    /// The element of a list.
    pub(super) fn index(&self, index: usize) -> Self {
        let node = match self.node.map(|node| &node.content) {
            Some(Content::List(nodes)) => nodes.get(index),
            _ => None,
        };
        Self::new(format!("{}[{index}]", self.path), node, self.location, self.diagnostics)
    }

    /// The keys of a mapping as written, with their values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> {
        self.pairs().iter().map(|(key, node)| (key.as_str(), self.child(key, Some(node))))
    }

    fn pairs(&self) -> &'a [(String, Node)] {
        match self.content() {
            Some(Content::Map(pairs)) => pairs,
            None => &[],
            Some(_) => {
                self.problem("must be a mapping");
                &[]
            }
        }
    }

    /// Returns false for a value that is absent or null.
    pub(super) fn is_set(&self) -> bool {
        self.node.is_some_and(|node| !matches!(node.content, Content::Null))
    }

    fn content(&self) -> Option<&'a Content> {
        self.node.filter(|_| self.is_set() && !self.is_refused()).map(|node| &node.content)
    }

    /// Returns true for a value that has been read and is invalid.
    pub(super) fn is_refused(&self) -> bool {
        self.node.is_some_and(|node| node.is_refused.get())
    }

    fn text(&self) -> Result<&'a str, Error> {
        match self.content() {
            Some(Content::Scalar(text)) => Ok(text),
            _ => Err(Error::Invalid("must be a single value".to_owned())),
        }
    }

    fn whole(&self) -> Result<u64, Error> {
        number::whole(self.text()?).ok_or_else(|| Error::Invalid("must be a non-negative integer".to_owned()))
    }

    /// Deserializes the value. All invalid parts are reported, and have their defaults.
    pub(super) fn read<T: Deserialize<'a> + Default>(&self) -> T {
        let warnings = self.diagnostics.warnings.borrow().len();
        while self.content().is_some() {
            match T::deserialize(self.clone()) {
                Ok(value) => return value,
                // Once more, for further problems. The part that has been refused counts as absent.
                Err(error) => drop(self.refuse(error)),
            }
            self.diagnostics.warnings.borrow_mut().truncate(warnings);
        }
        T::default()
    }

    /// Reports that the value is invalid.
    fn refuse(&self, error: Error) -> Error {
        if let (Error::Invalid(message), Some(node)) = (error, self.node) {
            node.is_refused.set(true);
            self.problem(message);
        }
        Error::Reported
    }

    pub(super) fn problem(&self, message: impl Into<String>) {
        let problem = Problem::new(self.location, &self.path, self.shown(), message);
        self.diagnostics.problems.borrow_mut().push(problem);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.diagnostics.warnings.borrow_mut().push(Problem::new(self.location, &self.path, "", message));
    }

    /// The value for a problem: empty for values that may be secrets, and for lists and mappings. Any value of the
    /// database may be a secret, because an address with a password may be the value of a wrong key.
    fn shown(&self) -> &'a str {
        let may_be_secret = |text: &str| {
            self.path.starts_with("databaseConfig") && !(self.path.ends_with(".port") && text.parse::<u16>().is_ok())
        };
        match self.node.map(|node| &node.content) {
            Some(Content::Scalar(text)) if !may_be_secret(text) => text,
            _ => "",
        }
    }

    /// Adds a warning for each key that is not one of the names.
    pub(super) fn warn_of_unknown_keys(&self, names: &[&str]) {
        for (_, value) in self.entries().filter(|(key, _)| !names.iter().any(|name| same_key(key, name))) {
            // Other programs of Armada have variables with the same prefix.
            if !self.path.is_empty() || !value.location.is_variable() {
                value.warn("is an unknown key and is ignored");
            }
        }
    }

    /// Warns of those of the named keys that the mapping has.
    pub(super) fn warn_of_keys(&self, names: &[&str], message: &str) {
        for (_, value) in self.entries().filter(|(key, _)| names.iter().any(|name| same_key(key, name))) {
            value.warn(message);
        }
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => visitor.visit_bool(true),
            "false" | "f" | "0" => visitor.visit_bool(false),
            _ => Err(Error::Invalid("must be true or false".to_owned())),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.whole()?;
        let too_large = |_| Error::Invalid(format!("must be at most {}", u32::MAX));
        visitor.visit_u32(number.try_into().map_err(too_large)?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.whole()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = number::float(self.text()?);
        visitor.visit_f64(number.ok_or_else(|| Error::Invalid("must be a number".to_owned()))?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    /// A single value is also a list of one, but not of mappings.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let elements: Vec<_> = match self.content() {
            None => Vec::new(),
            Some(Content::List(nodes)) => (0..nodes.len()).map(|index| self.index(index)).collect(),
            Some(Content::Scalar(_)) => vec![Self { is_single: true, ..self }],
            Some(Content::Map(_) | Content::Null) => return Err(Error::Invalid("must be a list".to_owned())),
        };
        visitor.visit_seq(Elements(elements.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.is_single && self.content().is_some() {
            return Err(Error::Invalid("must be a list".to_owned()));
        }
        let named = |(key, node): &'de (String, Node)| {
            let field = *fields.iter().find(|field| same_key(field, key))?;
            Some((field, self.child(field, Some(node)))).filter(|(_, value)| value.content().is_some())
        };
        let set: Vec<_> = self.pairs().iter().filter_map(named).collect();
        let read = visitor.visit_map(Fields { fields: set.into_iter(), value: None })?;
        self.warn_of_unknown_keys(fields);
        Ok(read)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// The elements of a list.
struct Elements<'de>(IntoIter<Value<'de>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(value) = self.0.find(|value| !value.is_refused()) else { return Ok(None) };
        seed.deserialize(value.clone()).map(Some).map_err(|error| value.refuse(error))
    }
}

/// The fields of a struct that are set.
struct Fields<'de> {
    fields: IntoIter<(&'static str, Value<'de>)>,
    value: Option<Value<'de>>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((field, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(field.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value.take().ok_or(Error::Reported)?;
        seed.deserialize(value.clone()).map_err(|error| value.refuse(error))
    }
}
