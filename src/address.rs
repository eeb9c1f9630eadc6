//! Parsing of server addresses: URL parts, parameters, and errors without any text of the address.
//!
//! In a mistyped address, any part may be the password: the host, a port, a key or the scheme. Therefore an
//! error about an address never contains text of the address. A [`Problem`] consists of static text and
//! positions only, and the signature of [`Setter`] enforces this for values.
//!
//! The rules are those of libpq, which converts a URL and a `key=value` string into the same parameters.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::error::{BackendKind, Error, Operation};

/// The maximum timeout in seconds, about 68 years, which also represents no limit. The clocks and timers of all
/// platforms can add it to the current time.
pub(crate) const MAX_SECONDS: u32 = i32::MAX.unsigned_abs();

/// A problem of an address, without any text of the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

/// Sets a parameter, or returns a description of valid values.
pub(crate) type Setter<C> = fn(&mut C, &str) -> Result<(), &'static str>;

/// The parameters of a backend's addresses.
pub(crate) struct Keys<C: 'static>(pub(crate) &'static [(&'static str, Setter<C>)]);

impl Problem {
    /// Creates a problem from a static text.
    pub(crate) fn new(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The value of a parameter is invalid.
    pub(crate) fn value(key: &'static str, expected: &'static str) -> Self {
        Self(format!("{key} must be {expected}"))
    }

    /// Adds the location of the problem: a part of the address or an environment variable.
    pub(crate) fn within(self, part: &'static str) -> Self {
        Self(format!("{part}: {}", self.0))
    }

    /// Converts the problem to an error of the public API.
    pub(crate) fn into_error(self, backend: BackendKind) -> Error {
        Error::invalid(Operation::Connect, self.0).with_backend(backend)
    }
}

/// Sets a field to a parsed value, or returns the description of valid values.
pub(crate) fn put<T>(field: &mut T, value: Option<T>, expected: &'static str) -> Result<(), &'static str> {
    *field = value.ok_or(expected)?;
    Ok(())
}

impl<C> Keys<C> {
    /// Finds a key by its name. `position` is the position of the key in the address, starting at 1.
    pub(crate) fn find(&self, position: usize, name: &str) -> Result<&'static str, Problem> {
        let known = self.0.iter().map(|&(key, _)| key).find(|&key| key == name);
        known.ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|&(key, _)| key).collect();
            Problem(format!("key {position} is unknown; the keys are {}", names.join(", ")))
        })
    }

    /// Sets a parameter whose key [`find`](Self::find) returned.
    pub(crate) fn set(&self, config: &mut C, key: &'static str, value: &str) -> Result<(), Problem> {
        let setter = self.0.iter().find(|&&(name, _)| name == key).map(|&(_, setter)| setter);
        setter.map_or(Ok(()), |setter| setter(config, value)).map_err(|expected| Problem::value(key, expected))
    }
}

/// The parts of a URL after `scheme://`, in encoded form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a str>,
    /// Hosts with their ports, separated by commas.
    pub(crate) hosts: &'a str,
    /// The part between the first slash and the query.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Splits a URL by the rules of libpq: an `@` before the first slash ends the credentials.
    pub(crate) fn split(text: &'a str) -> Self {
        let authority = text.split('/').next().unwrap_or_default();
        let (credentials, rest) = match authority.find('@') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => ("", text),
        };
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self { user, password, hosts, path, query }
    }

    /// The decoded keys and values of the query. A plus sign is not decoded to a space.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Result<(String, String), Problem>> {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').ok_or(Problem::new("a key of the query has no ="))?;
            Ok((decode("a key of the query", key)?, decode("a value of the query", value)?))
        })
    }
}

/// The decoded host and port of an element of [`UrlParts::hosts`]. The port is empty if it is absent.
pub(crate) fn host_and_port(element: &str) -> Result<(String, String), Problem> {
    const BRACKETS: &str = "an IPv6 address must be in brackets, followed by : and the port";
    let (host, port) = match element.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(Problem::new(BRACKETS))?;
            let port = if rest.is_empty() { Some("") } else { rest.strip_prefix(':') };
            (host, port.ok_or(Problem::new(BRACKETS))?)
        }
        None => element.split_once(':').unwrap_or((element, "")),
    };
    Ok((decode("the host", host)?, decode("the port", port)?))
}

/// The description of a valid host. An `@` in the host is usually part of a password.
pub(crate) const HOST: &str = "a host name or an IP address; in a URL write the characters % @ : / ? # [ ] & = of a \
     user or a password as % and their two hexadecimal digits";

/// Returns true if a text can be a host name or an IP address.
pub(crate) fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-._:%".contains(c))
}

/// Decodes percent-encoded bytes by the rules of libpq: each `%` must start an encoded byte.
pub(crate) fn decode(part: &'static str, text: &str) -> Result<String, Problem> {
    let encoded = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(encoded) {
        return Err(Problem::new("a % is not followed by two hexadecimal digits: write it as %25").within(part));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Problem::new("not UTF-8").within(part))?;
    plain(part, &decoded).map(str::to_owned)
}

/// Checks that a text has no NUL character, which the protocols do not support.
pub(crate) fn plain<'a>(part: &'static str, text: &'a str) -> Result<&'a str, Problem> {
    if text.contains('\0') { Err(Problem::new("a NUL character").within(part)) } else { Ok(text) }
}

/// Parses the name of a variant.
pub(crate) fn word<T: DeserializeOwned>(value: &str) -> Option<T> {
    T::deserialize(StrDeserializer::<ValueError>::new(value)).ok()
}

/// Parses a number in an inclusive range.
pub(crate) fn number<T: FromStr + PartialOrd>(value: &str, least: T, most: T) -> Option<T> {
    value.parse().ok().filter(|number| (least..=most).contains(number))
}

/// Parses a number of seconds, which may have a fraction, from 0 to [`MAX_SECONDS`].
pub(crate) fn seconds(value: &str) -> Option<Duration> {
    number(value, 0.0, f64::from(MAX_SECONDS)).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_by_the_rules_of_libpq() {
        let split = |text| {
            let UrlParts { user, password, hosts, path, query } = UrlParts::split(text);
            (user, password, hosts, path, query)
        };
        assert_eq!(split("u:p@h:1,[::1]:2/d?a=b"), ("u", Some("p"), "h:1,[::1]:2", "d", "a=b"));
        assert_eq!(split("u@/d?host=/dir"), ("u", None, "", "d", "host=/dir"));
        assert_eq!(split("/d?user=u&password=p@q"), ("", None, "", "d", "user=u&password=p@q"));
        assert_eq!(split("u:p?q@h?x=y"), ("u", Some("p?q"), "h", "", "x=y"));
        assert_eq!(split("h?x=a/b"), ("", None, "h", "", "x=a/b"));
        assert_eq!(split(""), ("", None, "", "", ""));
    }

    #[test]
    fn only_percent_encoded_bytes_are_decoded() {
        assert_eq!(decode("x", "a%40b+c%2525"), Ok("a@b+c%25".to_owned()));
        for text in ["%", "%4", "%zz", "a%é", "%ff", "%00"] {
            assert!(decode("x", text).is_err(), "{text}");
        }
        let pairs: Result<Vec<_>, _> = UrlParts::split("h?a=1+2&b=%26=&").pairs().collect();
        assert_eq!(pairs, Ok(vec![("a".to_owned(), "1+2".to_owned()), ("b".to_owned(), "&=".to_owned())]));
        assert!(UrlParts::split("h?a=1&b").pairs().any(|pair| pair.is_err()));
    }

    #[test]
    fn hosts_may_have_ports_and_brackets() {
        let both = |host: &str, port: &str| Ok((host.to_owned(), port.to_owned()));
        assert_eq!(host_and_port("h:1"), both("h", "1"));
        assert_eq!(host_and_port("%2Fdir"), both("/dir", ""));
        assert_eq!(host_and_port("[fe80::1%25eth0]:2"), both("fe80::1%eth0", "2"));
        assert!(host_and_port("[::1").is_err() && host_and_port("[::1]2").is_err());
        assert!(is_host("db-1.example") && is_host("fe80::1%eth0"));
        assert!(!is_host("") && !is_host("p@h") && !is_host("a b"));
    }

    #[test]
    fn numbers_outside_the_range_are_rejected() {
        assert_eq!(number("5", 1, 5), Some(5));
        for text in ["0", "6", "-1", "", "9000000000000000000", "90000000000000000000"] {
            assert_eq!(number::<u64>(text, 1, 5), None, "{text}");
        }
        assert_eq!(seconds("1.5"), Some(Duration::from_millis(1500)));
        for text in ["-1", "NaN", "inf", "10000000000000000000", "", "1s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
