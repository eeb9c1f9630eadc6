//! Environment variables that override the files.

use super::node::{Content, Node, same_key};
use super::problem::{Problem, SourceLocation};

const PREFIX: &str = "ARMADA_";
/// The mappings whose keys are those of a driver. Such keys may contain `_`, which otherwise separates keys.
const SERVERS: [[&str; 2]; 2] = [["databaseConfig", "postgres"], ["databaseConfig", "clickHouse"]];

/// Overrides the values of a configuration by the variables `ARMADA_…`, and returns warnings of those that have no
/// effect. As for Armada's components, an empty variable counts as not set.
pub(super) fn apply(root: &mut Node, variables: impl IntoIterator<Item = (String, String)>) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut variables: Vec<_> = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    variables.sort_unstable();
    for (variable, value) in variables {
        let path = match variable.split_at_checked(PREFIX.len()) {
            Some((prefix, path)) if prefix.eq_ignore_ascii_case(PREFIX) => path.to_ascii_lowercase(),
            _ => continue,
        };
        let location = SourceLocation::variable(&variable);
        let keys = keys(&path);
        let has_effect = match SERVERS.iter().find(|server| is_within(&keys, server.as_slice())) {
            // The variables of a server do not choose it: they may be set for runs on several backends.
            Some([section, server]) if !has_mapping(root, section, server) => Err("no file has its section"),
            _ => set(root, &keys, Node::new(location.clone(), Content::Scalar(value))),
        };
        if let Err(reason) = has_effect {
            warnings.push(Problem::new(&location, "", "", format!("has no effect: {reason}")));
        }
    }
    warnings
}

fn keys(path: &str) -> Vec<&str> {
    let keys: Vec<_> = path.split('_').collect();
    let within_server = SERVERS.iter().any(|server| is_within(&keys, server));
    if within_server { path.splitn(SERVERS[0].len() + 1, '_').collect() } else { keys }
}

fn is_within(keys: &[&str], section: &[&str]) -> bool {
    keys.len() > section.len() && keys.iter().zip(section).all(|(key, name)| same_key(key, name))
}

fn has_mapping(root: &Node, section: &str, server: &str) -> bool {
    let mapping = root.child(section).and_then(|section| section.child(server));
    mapping.is_some_and(|node| matches!(node.content, Content::Map(_)))
}

/// Sets the value of a key, and creates the mappings that contain it.
fn set(node: &mut Node, keys: &[&str], value: Node) -> Result<(), &'static str> {
    let Some((key, rest)) = keys.split_first() else {
        if matches!(node.content, Content::Map(_)) {
            return Err("it names a section");
        }
        *node = value;
        return Ok(());
    };
    if matches!(node.content, Content::Null) {
        *node = Node::new(value.location.clone(), Content::Map(Vec::new()));
    }
    let Content::Map(pairs) = &mut node.content else {
        return Err("it names a part of a list or a single value");
    };
    let index = pairs.iter().position(|(other, _)| same_key(other, key)).unwrap_or_else(|| {
        pairs.push(((*key).to_owned(), Node::new(value.location.clone(), Content::Null)));
        pairs.len() - 1
    });
    set(&mut pairs[index].1, rest, value)
}
