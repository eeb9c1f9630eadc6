//! Addresses of servers: the parts of a URL, the keys of a backend, and errors that quote nothing.
//!
//! In a mistyped address the password can stand anywhere: in the place of the host, of a port, of a
//! key or of the scheme. So no error about an address contains any text of it. A [`Problem`] is built
//! from the words of this program and from positions alone, and the signature of [`Setter`] leaves no
//! other way to report a value.
//!
//! The rules are those of libpq, which turns a URL and its own `key=value` text into the same pairs.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::error::{BackendKind, Error, Operation};

/// The greatest number of seconds that a timeout takes, and what stands for no limit: 68 years, which
/// the clocks and timers of every platform can add to the time of day.
pub(crate) const MAX_SECONDS: u32 = i32::MAX.unsigned_abs();

/// What is wrong with an address, without any text of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

/// Sets a key, or returns what the value must be.
pub(crate) type Setter<C> = fn(&mut C, &str) -> Result<(), &'static str>;

/// The keys of a backend's addresses.
pub(crate) struct Keys<C: 'static>(pub(crate) &'static [(&'static str, Setter<C>)]);

impl Problem {
    /// A problem in the program's own words.
    pub(crate) fn new(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The value of a key is not what it must be.
    pub(crate) fn value(key: &'static str, expected: &'static str) -> Self {
        Self(format!("{key} must be {expected}"))
    }

    /// The same problem, found in a part of the address or in a variable of the environment.
    pub(crate) fn within(self, place: &'static str) -> Self {
        Self(format!("{place}: {}", self.0))
    }

    /// The error of the public API.
    pub(crate) fn into_error(self, backend: BackendKind) -> Error {
        Error::invalid(Operation::Connect, self.0).with_backend(backend)
    }
}

/// Sets a field to a value that was parsed, or returns what it must be.
pub(crate) fn put<T>(field: &mut T, value: Option<T>, expected: &'static str) -> Result<(), &'static str> {
    *field = value.ok_or(expected)?;
    Ok(())
}

impl<C> Keys<C> {
    /// The key of this name, which stands at `position` (from 1) of its address.
    pub(crate) fn find(&self, position: usize, name: &str) -> Result<&'static str, Problem> {
        let known = self.0.iter().map(|&(key, _)| key).find(|&key| key == name);
        known.ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|&(key, _)| key).collect();
            Problem(format!("key {position} is unknown; the keys are {}", names.join(", ")))
        })
    }

    /// Sets a key that [`find`](Self::find) returned.
    pub(crate) fn set(&self, config: &mut C, key: &'static str, value: &str) -> Result<(), Problem> {
        let setter = self.0.iter().find(|&&(name, _)| name == key).map(|&(_, setter)| setter);
        setter.map_or(Ok(()), |setter| setter(config, value)).map_err(|expected| Problem::value(key, expected))
    }
}

/// The parts of a URL after its `scheme://`, not yet decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a str>,
    /// Hosts with their ports, separated by commas.
    pub(crate) hosts: &'a str,
    /// What stands between the first slash and the query.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Splits a URL as libpq does: an `@` before the first slash ends the credentials.
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

    /// The keys and values of the query, decoded. A plus is a plus.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Result<(String, String), Problem>> {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').ok_or(Problem::new("a key of the query has no ="))?;
            Ok((decode("a key of the query", key)?, decode("a value of the query", value)?))
        })
    }
}

/// The host and the port of one element of [`UrlParts::hosts`]; the port is empty where there is none.
pub(crate) fn host_and_port(element: &str) -> Result<(String, String), Problem> {
    const BRACKETS: &str = "an IPv6 address stands in [ and ], followed by : and the port";
    let (host, port) = match element.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(Problem::value("the host", BRACKETS))?;
            let port = if rest.is_empty() { Some("") } else { rest.strip_prefix(':') };
            (host, port.ok_or(Problem::new(BRACKETS))?)
        }
        None => element.split_once(':').unwrap_or((element, "")),
    };
    Ok((decode("the host", host)?, decode("the port", port)?))
}

/// What a host must be: an `@` in it was part of a password.
pub(crate) const HOST: &str = "a host name or an IP address; in a URL write the characters % @ : / ? # [ ] & = of a \
     user or a password as % and their two hexadecimal digits";

/// Whether a text can be the name or the address of a host.
pub(crate) fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-._:%".contains(c))
}

/// A part of a URL with its percent-encoded bytes decoded, by libpq's rules: every `%` begins one.
pub(crate) fn decode(part: &'static str, text: &str) -> Result<String, Problem> {
    let encoded = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(encoded) {
        return Err(Problem::new("a % is not followed by two hexadecimal digits: write it as %25").within(part));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Problem::new("not UTF-8").within(part))?;
    plain(part, &decoded).map(str::to_owned)
}

/// A text without NUL, which no protocol can send.
pub(crate) fn plain<'a>(part: &'static str, text: &'a str) -> Result<&'a str, Problem> {
    if text.contains('\0') { Err(Problem::new("a NUL character").within(part)) } else { Ok(text) }
}

/// A number of an address within limits, both included.
pub(crate) fn number<T: FromStr + PartialOrd>(value: &str, least: T, most: T) -> Option<T> {
    value.parse().ok().filter(|number| (least..=most).contains(number))
}

/// A number of seconds, which may have a fraction, from 0 to [`MAX_SECONDS`].
pub(crate) fn seconds(value: &str) -> Option<Duration> {
    number(value, 0.0, f64::from(MAX_SECONDS)).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_as_libpq_splits_it() {
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
    fn percent_encoded_bytes_are_decoded_and_nothing_else() {
        assert_eq!(decode("x", "a%40b+c%2525"), Ok("a@b+c%25".to_owned()));
        for text in ["%", "%4", "%zz", "a%é", "%ff", "%00"] {
            assert!(decode("x", text).is_err(), "{text}");
        }
        let pairs: Result<Vec<_>, _> = UrlParts::split("h?a=1+2&b=%26=&").pairs().collect();
        assert_eq!(pairs, Ok(vec![("a".to_owned(), "1+2".to_owned()), ("b".to_owned(), "&=".to_owned())]));
        assert!(UrlParts::split("h?a=1&b").pairs().any(|pair| pair.is_err()));
    }

    #[test]
    fn hosts_have_ports_and_brackets() {
        let both = |host: &str, port: &str| Ok((host.to_owned(), port.to_owned()));
        assert_eq!(host_and_port("h:1"), both("h", "1"));
        assert_eq!(host_and_port("%2Fdir"), both("/dir", ""));
        assert_eq!(host_and_port("[fe80::1%25eth0]:2"), both("fe80::1%eth0", "2"));
        assert!(host_and_port("[::1").is_err() && host_and_port("[::1]2").is_err());
        assert!(is_host("db-1.example") && is_host("fe80::1%eth0"));
        assert!(!is_host("") && !is_host("p@h") && !is_host("a b"));
    }

    #[test]
    fn numbers_have_limits() {
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
