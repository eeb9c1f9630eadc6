//! The server settings that results depend on.
//!
//! A user's profile may change the meaning of a statement: joins may return nulls, results may be truncated without an
//! error, inserts may be queued. So every setting that results depend on is sent with every request, and an address
//! cannot set it.
//!
//! Settings that the server's version does not know cannot be sent. If the user may not change settings (`readonly =
//! 1`), or not one of these (a constraint of the profile), the profile must have the right values, or the user is
//! rejected.

use std::collections::HashMap;

use super::row::SettingRow;
use super::statement::{Statement, Values};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};

/// A setting and its value.
pub(super) type Setting = (&'static str, &'static str);

/// The settings that the results of reads depend on.
const FOR_READS: [Setting; 38] = [
    // Results are complete.
    ("limit", "0"),
    ("offset", "0"),
    ("additional_result_filter", ""),
    ("additional_table_filters", "{}"),
    // Results are read from the tables, not from the query cache.
    ("use_query_cache", "0"),
    // The client can parse the format.
    ("output_format_binary_encode_types_in_binary_format", "0"),
    // Exceeding a limit is an error.
    ("result_overflow_mode", "throw"),
    ("read_overflow_mode", "throw"),
    ("read_overflow_mode_leaf", "throw"),
    ("group_by_overflow_mode", "throw"),
    ("sort_overflow_mode", "throw"),
    ("distinct_overflow_mode", "throw"),
    ("set_overflow_mode", "throw"),
    ("join_overflow_mode", "throw"),
    ("transfer_overflow_mode", "throw"),
    ("timeout_overflow_mode", "throw"),
    ("timeout_overflow_mode_leaf", "throw"),
    // Results have the types of the row structs.
    ("join_use_nulls", "0"),
    ("group_by_use_nulls", "0"),
    ("aggregate_functions_null_for_empty", "0"),
    ("cast_keep_nullable", "0"),
    ("extremes", "0"),
    ("empty_result_for_aggregation_by_empty_set", "0"),
    // Names and operators have their default meaning.
    ("prefer_column_name_to_alias", "0"),
    ("transform_null_in", "0"),
    ("any_join_distinct_right_table_keys", "0"),
    // Reads return the newest version of each row.
    ("use_skip_indexes_if_final_exact_mode", "1"),
    ("apply_patch_parts", "1"),
    ("apply_mutations_on_fly", "0"),
    ("apply_deleted_mask", "1"),
    ("final", "0"),
    // Before its first insert, the client describes the table.
    ("describe_compact_output", "0"),
    ("describe_include_subcolumns", "0"),
    ("describe_include_virtual_columns", "0"),
    ("convert_query_to_cnf", "0"),
    ("data_type_default_nullable", "0"),
    // The rows of all shards are read, and their groups are merged.
    ("skip_unavailable_shards", "0"),
    ("distributed_group_by_no_merge", "0"),
];

/// The number of these settings, counted from the first, that the read of the profile depends on.
const FOR_PROFILE: usize = 6;

/// The settings that the results of writes depend on, and of reads of replicated or sharded tables. Other tables ignore
/// the latter, so the profile of a user who may not change them need not have them.
const FOR_WRITES: [Setting; 15] = [
    // An insert is stored as one part when it returns.
    ("async_insert", "0"),
    ("max_insert_threads", "1"),
    ("max_insert_block_size_bytes", "0"),
    ("use_strict_insert_block_limits", "0"),
    ("min_insert_block_size_rows_for_materialized_views", "0"),
    ("min_insert_block_size_bytes_for_materialized_views", "0"),
    ("insert_null_as_default", "1"),
    ("materialized_views_ignore_errors", "0"),
    // Rows have versions, or inserts have tokens. A block that is equal to an earlier one must not be dropped, because
    // the store may have been cleared in between.
    ("insert_deduplicate", "0"),
    ("input_format_binary_decode_types_in_binary_format", "0"),
    // An insert returns when every shard has stored its rows …
    ("distributed_foreground_insert", "1"),
    ("insert_shard_id", "0"),
    // … on a quorum of replicas, one insert after another, …
    ("insert_quorum", "auto"),
    ("insert_quorum_parallel", "0"),
    // … and a read on any replica sees all of these rows, or fails. A batch that read an older version of a row would
    // overwrite the newest one.
    ("select_sequential_consistency", "1"),
];

/// Settings that are sent if possible; results do not depend on them.
const HELPFUL: [Setting; 3] = [
    // A statement that reads a table twice reads one snapshot. Older servers do not have this setting.
    ("enable_shared_storage_snapshot_in_query", "1"),
    // A read ends if its client disconnects.
    ("cancel_http_readonly_queries_on_client_close", "1"),
    // Every read evaluates its filters, as the first one does, so that a comparison or load test that repeats queries
    // does not measure a cache. An address can enable it.
    ("use_query_condition_cache", "0"),
];

/// Further names that an address must not set: URL parameters that are not settings, and settings that select another
/// database, profile or format.
const RESERVED: [&str; 16] = [
    "database",
    "query",
    "query_id",
    "user",
    "password",
    "quota_key",
    "role",
    "profile",
    "default_format",
    "compress",
    "decompress",
    "session_id",
    "session_check",
    "session_timeout",
    "close_session",
    "insert_deduplication_token",
];
const READONLY: &str = "readonly";
const RESERVED_PREFIXES: [&str; 4] = ["param_", "format_", "input_format_", "output_format_"];

/// Whether an address may set a setting.
pub(super) fn may_be_set(name: &str) -> bool {
    let relied_on = FOR_READS.iter().chain(&FOR_WRITES).any(|&(relied_on, _)| relied_on == name);
    !relied_on && !RESERVED.contains(&name) && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The user's values of the settings, by name.
type Profile = HashMap<String, SettingRow>;

/// The settings to send with every request of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToSend {
    pub(super) settings: Vec<Setting>,
    /// Whether the user may change settings, so that requests may contain further ones.
    pub(super) may_set: bool,
}

/// The settings that the read of the profile depends on: the profile could truncate its result, or enable the query
/// cache.
pub(super) fn for_profile() -> &'static [Setting] {
    &FOR_READS[..FOR_PROFILE]
}

/// The statement that reads the user's profile.
pub(super) fn profile() -> Statement {
    let names = FOR_READS.iter().chain(&FOR_WRITES).chain(&HELPFUL).map(|&(name, _)| name);
    let mut values = Values::default();
    let names = values.texts(names.chain([READONLY]));
    let sql = format!("SELECT name, value, readonly FROM system.settings WHERE name IN {names}");
    Statement { sql, values }
}

/// The settings to send, given the rows of [`profile`].
///
/// # Errors
///
/// `Backend` if the profile has a wrong value of a setting that results depend on, and the user may not change it.
pub(super) fn to_send(profile: Vec<SettingRow>) -> Result<ToSend> {
    choose(&profile.into_iter().map(|row| (row.name.clone(), row)).collect())
}

fn choose(profile: &Profile) -> Result<ToSend> {
    if !profile.contains_key(READONLY) {
        return Err(refused("its profile truncates results and the user may not change it"));
    }
    let may_set = profile[READONLY].value != "1";
    let mut settings = Vec::new();
    let wanted = FOR_READS.iter().map(|setting| (setting, true));
    for (&(name, value), needed) in wanted.chain(FOR_WRITES.iter().chain(&HELPFUL).map(|setting| (setting, false))) {
        let Some(current) = profile.get(name) else { continue };
        if current.readonly == 0 {
            settings.push((name, value));
        } else if needed && current.value != value {
            return Err(refused(&format!(
                "its profile has {name}={} and the user may not change it: the profile must have {name}={value}",
                current.value
            )));
        }
    }
    Ok(ToSend { settings, may_set })
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Backend, Operation::Connect, format!("results for this user would be wrong: {why}"))
        .with_backend(BackendKind::ClickHouse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(settings: &[(&str, &str, u8)]) -> Profile {
        let row = |&(name, value, readonly): &(&str, &str, u8)| SettingRow {
            name: name.to_owned(),
            value: value.to_owned(),
            readonly,
        };
        settings.iter().map(row).map(|row| (row.name.clone(), row)).collect()
    }

    #[test]
    fn settings_that_the_server_knows_are_sent() {
        let profile = profile(&[("join_use_nulls", "1", 0), ("limit", "0", 0), ("readonly", "2", 0)]);
        let sent = choose(&profile).unwrap();
        assert_eq!((sent.settings, sent.may_set), (vec![("limit", "0"), ("join_use_nulls", "0")], true));
    }

    #[test]
    fn settings_of_replicated_and_sharded_tables_are_always_sent() {
        let names = ["insert_quorum", "insert_quorum_parallel", "select_sequential_consistency", "insert_shard_id"];
        let rows: Vec<_> = names.iter().map(|&name| (name, "9", 0)).chain([("readonly", "0", 0)]).collect();
        let sent: HashMap<_, _> = choose(&profile(&rows)).unwrap().settings.into_iter().collect();
        assert_eq!(names.map(|name| sent[name]), ["auto", "0", "1", "0"]);
        assert!(names.iter().all(|name| !may_be_set(name)));
    }

    #[test]
    fn a_readonly_user_requires_a_safe_profile() {
        let safe = [("join_use_nulls", "0", 1), ("async_insert", "1", 1), ("readonly", "1", 1)];
        assert_eq!(choose(&profile(&safe)).unwrap(), ToSend { settings: Vec::new(), may_set: false });
        for readonly in ["0", "1"] {
            let harmful = [("join_use_nulls", "1", 1), ("readonly", readonly, 0)];
            let error = choose(&profile(&harmful)).unwrap_err();
            assert!(error.message().contains("join_use_nulls=1"), "{error}");
        }
        // A server may allow such a user to change some settings.
        let changeable = [("limit", "1", 0), ("join_use_nulls", "0", 1), ("readonly", "1", 1)];
        assert_eq!(choose(&profile(&changeable)).unwrap(), ToSend { settings: vec![("limit", "0")], may_set: false });
        assert!(choose(&profile(&[])).is_err(), "the result was truncated");
    }

    #[test]
    fn an_address_cannot_set_what_results_depend_on() {
        for name in ["database", "limit", "join_use_nulls", "output_format_json_quote_denormals", "param_p0", "profile"]
        {
            assert!(!may_be_set(name), "{name}");
        }
        assert!(may_be_set("max_threads") && may_be_set("join_algorithm"));
    }
}
