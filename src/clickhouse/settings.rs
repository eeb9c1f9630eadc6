//! The settings that answers rely on.
//!
//! The profile of a user may change what a statement means: joins may give nulls, a result may be cut without an
//! error, an insert may be queued. So every setting on which an answer relies is sent with every request, and
//! the address cannot set it otherwise.
//!
//! What the server's version does not know cannot be sent. A user who may set nothing (`readonly = 1`), or not
//! one of these settings (a constraint of the profile), is served where the profile has the right values
//! already, and refused where it has not.

use std::collections::HashMap;

use super::connection::Connection;
use super::row::SettingRow;
use super::statement::{Statement, Values};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};

/// A setting and the value on which answers rely.
type Setting = (&'static str, &'static str);

/// What answers rely on.
const FOR_READS: [Setting; 36] = [
    // Nothing is left out of a result.
    ("limit", "0"),
    ("offset", "0"),
    ("additional_result_filter", ""),
    ("additional_table_filters", "{}"),
    // A read sees what is stored now, …
    ("use_query_cache", "0"),
    // … in a form that the client reads.
    ("output_format_binary_encode_types_in_binary_format", "0"),
    // What breaks a limit is an error.
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
    // The types of results are those that rows are read as.
    ("join_use_nulls", "0"),
    ("group_by_use_nulls", "0"),
    ("aggregate_functions_null_for_empty", "0"),
    ("cast_keep_nullable", "0"),
    ("extremes", "0"),
    ("empty_result_for_aggregation_by_empty_set", "0"),
    // Names and operators mean what they say.
    ("prefer_column_name_to_alias", "0"),
    ("transform_null_in", "0"),
    ("any_join_distinct_right_table_keys", "0"),
    // Of each row the newest version counts.
    ("use_skip_indexes_if_final_exact_mode", "1"),
    ("apply_patch_parts", "1"),
    ("apply_mutations_on_fly", "0"),
    ("apply_deleted_mask", "1"),
    ("final", "0"),
    // The client asks for the types of a table's columns before the first insert.
    ("describe_compact_output", "0"),
    ("describe_include_subcolumns", "0"),
    ("describe_include_virtual_columns", "0"),
    ("convert_query_to_cnf", "0"),
    ("data_type_default_nullable", "0"),
];

/// So many of them, the first, are needed to read the profile itself.
const TO_READ_THE_PROFILE: usize = 6;

/// What writes rely on.
const FOR_WRITES: [Setting; 6] = [
    // An insert is there when it is answered, as one part.
    ("async_insert", "0"),
    ("max_insert_threads", "1"),
    ("insert_null_as_default", "1"),
    ("materialized_views_ignore_errors", "0"),
    // Rows carry a version, or the insert a token. An equal block may come again and must not be dropped: the
    // store may have been emptied in between.
    ("insert_deduplicate", "0"),
    ("input_format_binary_decode_types_in_binary_format", "0"),
];

/// What is sent where it can be, and nothing relies on.
const HELPFUL: [Setting; 2] = [
    // Where a statement reads a table twice, both see the same. Older servers do not know it.
    ("enable_shared_storage_snapshot_in_query", "1"),
    // A read that nobody waits for any more ends.
    ("cancel_http_readonly_queries_on_client_close", "1"),
];

/// What the address must not set besides: what is no setting but leads the request elsewhere, and what chooses
/// another profile or format.
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

/// Whether the address may set a setting of this name.
pub(super) fn may_be_set(name: &str) -> bool {
    let relied_on = FOR_READS.iter().chain(&FOR_WRITES).any(|&(relied_on, _)| relied_on == name);
    !relied_on && !RESERVED.contains(&name) && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The settings of the user, as far as they matter here, by name.
type Profile = HashMap<String, SettingRow>;

/// What to send with every request of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToSend {
    pub(super) settings: Vec<Setting>,
    /// Whether the user may set anything, so that the requests may carry other settings too.
    pub(super) may_set: bool,
}

/// Reads the user's profile, by a connection that sends no settings.
///
/// # Errors
///
/// `Backend` if the profile has a wrong value of a setting on which answers rely, and the user may not change it.
pub(super) async fn to_send(connection: &Connection) -> Result<ToSend> {
    let names = FOR_READS.iter().chain(&FOR_WRITES).chain(&HELPFUL).map(|&(name, _)| name);
    let mut values = Values::default();
    let names = values.texts(names.chain([READONLY]));
    let sql = format!("SELECT name, value, readonly FROM system.settings WHERE name IN {names}");
    let statement = Statement { sql, values };
    // The profile may cut this answer too, or have it come from the query cache.
    let whole = connection.with_settings(&FOR_READS[..TO_READ_THE_PROFILE]);
    let rows: Result<Vec<SettingRow>> = whole.fetch_on_server(Operation::Connect, &statement).await;
    let rows = match rows {
        Ok(rows) => rows,
        // Either the user may set nothing, or the same error comes again.
        Err(_) => connection.fetch_on_server(Operation::Connect, &statement).await?,
    };
    choose(&rows.into_iter().map(|row| (row.name.clone(), row)).collect())
}

fn choose(profile: &Profile) -> Result<ToSend> {
    if !profile.contains_key(READONLY) {
        return Err(refused("its profile leaves out rows of results and the user may not change it"));
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
    Error::new(ErrorKind::Backend, Operation::Connect, format!("the answers to this user would be wrong: {why}"))
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
    fn what_the_server_knows_is_sent() {
        let profile = profile(&[("join_use_nulls", "1", 0), ("limit", "0", 0), ("readonly", "2", 0)]);
        let sent = choose(&profile).unwrap();
        assert_eq!((sent.settings, sent.may_set), (vec![("limit", "0"), ("join_use_nulls", "0")], true));
    }

    #[test]
    fn a_user_who_may_set_nothing_needs_a_safe_profile() {
        let safe = [("join_use_nulls", "0", 1), ("async_insert", "1", 1), ("readonly", "1", 1)];
        assert_eq!(choose(&profile(&safe)).unwrap(), ToSend { settings: Vec::new(), may_set: false });
        for readonly in ["0", "1"] {
            let harmful = [("join_use_nulls", "1", 1), ("readonly", readonly, 0)];
            let error = choose(&profile(&harmful)).unwrap_err();
            assert!(error.message().contains("join_use_nulls=1"), "{error}");
        }
        // A server may let such a user change some all the same.
        let changeable = [("limit", "1", 0), ("join_use_nulls", "0", 1), ("readonly", "1", 1)];
        assert_eq!(choose(&profile(&changeable)).unwrap(), ToSend { settings: vec![("limit", "0")], may_set: false });
        assert!(choose(&profile(&[])).is_err(), "the answer was cut");
    }

    #[test]
    fn the_address_sets_nothing_that_answers_rely_on() {
        for name in ["database", "limit", "join_use_nulls", "output_format_json_quote_denormals", "param_p0", "profile"]
        {
            assert!(!may_be_set(name), "{name}");
        }
        assert!(may_be_set("max_threads") && may_be_set("join_algorithm"));
    }
}
