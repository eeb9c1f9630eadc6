//! The ClickHouse backend: Lookout's data in a column store.
//!
//! Lookout has no ClickHouse backend, so the design is Broadside's. [`ClickHouseConfig`] describes addresses.
//!
//! # Tables
//!
//! There are four as in Lookout, in an Atomic database: `job` by job id, `job_run` by (job id, run id), `job_spec` and
//! `job_error` by job id.
//!
//! - **ReplacingMergeTree(version).** An update reads the stored row, which the rule for terminal jobs requires anyway,
//!   and inserts the whole row with a higher version. This design is the most portable: it supports replication,
//!   inserts are idempotent, and merges remove old versions. Partial rows (CoalescingMergeTree) are written faster, but
//!   until they are merged, reads take up to 25 times as long, and partial rows cannot set a column to null. Reads of
//!   an event log with `argMax` always take longer.
//! - **Keys.** A batch of Armada's events concerns few jobs, and ids are ULIDs, so the rows of a batch are close
//!   together at the end of the table. Granules of 1,024 rows instead of 8,192 make lookups by key cheaper, and scans
//!   no slower.
//! - **Runs by run id.** Updates of runs have no job id. The minmax index on `run_id` selects the newest granules for
//!   ids that increase with time; the bloom filter serves all other ids.
//! - **Types.** LowCardinality for repeated strings (queue, job set, owner, cluster, node and so on); Enum8 with
//!   Lookout's ordinals for states, which sorts by ordinal; DateTime64(6), whose range, 1900 to 2299, is that of
//!   ingestion; ZSTD for other strings. Null strings are stored as empty strings, which ingestion rejects.
//! - **Annotations** are a map in the job's row. A bloom filter on "key NUL value" selects a
//!   few percent of the granules for an exact match of a rare value.
//! - **Latest runs** are joined by reads. They may belong to another job and may be inserted after the job's update, so
//!   every batch of runs would have to maintain a copy in the job's row. A filter on a field of the latest run becomes
//!   a set of run ids. Groups by such a field join all jobs with all runs, the most expensive read
//!   (`setting.join_algorithm=full_sorting_merge` halves its time if run ids increase with job ids).
//!
//! With `layout=patch` the tables are plain MergeTree, and updates are lightweight (`UPDATE`): they write patch parts
//! of the changed columns and rows. Reads are the fastest, because nothing is merged. The feature is new (ClickHouse
//! 25.7), and Broadside does not use it with replication. Jobs and runs are inserted into a Null table, whose
//! materialized view skips existing ids; inserts have tokens, by which the server deduplicates repeated ones.
//!
//! # The marker
//!
//! The comment of a fifth table, `broadside_store`, is the marker of a store: layout, version of the schema, a unique
//! id, time of creation, and whether it is a scratch store. `connect` and `initialise_schema` check it and return
//! `WrongStore` if it does not match the address, or if the tables are Distributed and the address has no `cluster`, or
//! vice versa. Ingestion, population, `set_property` and `tear_down` reject tables
//! without a marker unless the address has `adopt=true`; `initialise_schema` then adds one. The rows of the table are
//! the properties.
//!
//! # Guarantees
//!
//! - **Read-your-writes.** Inserts are synchronous (`async_insert = 0`), so later reads from every handle see them. With
//!   replicated or sharded tables, also adopted ones, an insert waits for all shards and a quorum of replicas, and every
//!   read requests sequential consistency: a replica without all rows refuses it, and the read is retried. So a batch
//!   behind a load balancer never computes a row from an outdated one.
//! - **Atomicity.** A batch is one insert for each table, in the order specs, errors, runs, jobs. Each insert is one
//!   part, so readers see all of it or nothing. If one fails, the earlier ones remain, and repeating the batch completes
//!   it. (`layout=patch` has two statements for `job_run` and for `job`: the insert and the update.) Once the first
//!   insert has started, a batch is completed even if the caller's future is dropped.
//! - **Memory.** A server needs several times the bytes of an insert. So a batch with more than 128 MiB of specs, errors,
//!   messages or annotations is several inserts into that table, and a chunk of historical jobs is reduced to 128 MiB.
//!   With `layout=patch`, an update has at most 4 MiB of messages, unless a single run has more.
//! - **Isolation of batches.** Among the handles of one process to one store, identified by the id in its marker, or by
//!   that of the table `job` if there is no marker, batches on a common job or run exclude each other; other batches
//!   are executed concurrently. Processes do not exclude each other: those that write concurrently must write different
//!   jobs, as Lookout's ingesters do, each of which has its own job sets. If two processes compute rows of a job from
//!   the same stored row, the row with the higher version replaces the other one as a whole: the other process's change
//!   is lost, even if it ended the job. With `layout=patch`, the same holds for the changeable columns. A process that
//!   updates a row which is newer than its own last batch logs a warning, once.
//! - **Isolation of reads.** Reads do not wait for writes, nor writes for reads. Each table is read at one point in
//!   time, so a read sees all rows of a batch in a table or none. Across tables, a read may see part of a batch: runs,
//!   specs and errors whose jobs have not changed yet. A page never shows jobs before their runs, because it reads jobs
//!   first and batches write them last. An upper bound of versions, published by the writer, would not improve this: a
//!   merge removes the version that a reader below the bound needs. ClickHouse has no snapshots of several tables.
//! - **Retries.** A request is retried up to four times within about two seconds if its connection failed, or if the
//!   server was overloaded or had no memory for it (241). An insert that is refused while another one waits for its
//!   quorum (286) is retried until the timeout. A request that timed out is not retried.
//! - **Profiles.** Every setting that results depend on is sent with every request. A user who may not change settings
//!   (`readonly=1`) is accepted if the profile has the right values, and rejected otherwise.
//!
//! # Late writes
//!
//! The server may execute a request that has timed out, or whose client has died, after later batches, with no limit on
//! the delay. Such a request does not undo later batches:
//!
//! - All rows of a batch have one version from a monotonic clock (module `version`), drawn after the batch has locked
//!   its keys. So versions are in the order of batches, and a late row is superseded by the row of a later batch on the
//!   same job. For jobs that no later batch has written, the late write takes effect; its outcome was reported as
//!   unknown.
//! - The same holds for specs and errors: if two batches insert the spec of a job because the insert of the first was
//!   pending, the spec of the second, which was reported as stored, remains.
//! - With `layout=patch`, a late `UPDATE` skips rows of a higher version, and a late insert of an existing id adds no
//!   row. One case is undetermined: if a late insert is executed between the read and the insert of a later batch that
//!   inserts the same job, the row of the late insert remains.
//! - Historical jobs have the lowest version and skip ids that exist when the server executes the statement, so they
//!   never replace a row.
//! - A repetition after a crash, in this process or another, reads the stored rows again. Either the late write has
//!   been executed and nothing remains to do, or its version is lower than that of the repetition.
//! - After a truncation, a late write restores the rows that it contains.
//!
//! # Clusters
//!
//! With `cluster=NAME` the tables are created ON CLUSTER: Replicated tables on every host, under Distributed tables
//! that shard by job id, so that a job, its spec, its error, its runs and all their versions are on one shard. The
//! cluster must have `internal_replication`, and the hosts Keeper and the macros of replicated tables.
//!
//! - The server divides an insert into one part for each shard. Each is atomic; if one fails, those of other shards
//!   remain, and repeating the batch completes it.
//! - A table accepts one insert at a time until it has its quorum (`insert_quorum_parallel=0`, which sequential
//!   consistency requires). So the handles of a process take turns, and one insert writes the rows of all batches that
//!   wait, up to 128 MiB. The inserts of several processes are refused (286) and retried. A shard without a majority of
//!   its replicas refuses writes.
//! - Subqueries are GLOBAL: the latest run of a job, and other jobs of its job set, may be on other shards.
//! - The size of a store is that of all shards, each counted once. The activity is that of the host that responds.
//!
//! The tests execute all scenarios, properties and a load test on a cluster of one shard in the engine of the tests:
//! Distributed tables, GLOBAL subqueries and turns. Nothing has been executed on a real cluster: several shards,
//! replication with its quorums and sequential consistency, the queue of ON CLUSTER, and the failure of a host.
//!
//! # Modules
//!
//! They have the names, the contents and the order of those of the PostgreSQL backend.
//! ClickHouse alone has `tables` (the DDL), `change` (the outcome of several statements), and `store`, `write_lock`,
//! `version` and `turns` (the state that all handles of a process to a store share).

mod activity;
mod address;
mod change;
mod config;
mod connection;
mod database;
mod error;
mod exchange;
mod explain;
mod historical;
mod ingest;
mod layout;
mod marker;
mod query;
mod record;
mod retry;
mod row;
mod schema;
mod scratch;
mod settings;
mod statement;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod tls;
mod turns;
mod version;
mod write_lock;

pub(crate) use self::address::URL_PREFIXES;
pub use self::config::ClickHouseConfig;
