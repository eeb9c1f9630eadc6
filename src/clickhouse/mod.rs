//! The ClickHouse backend: what Lookout could be on a column store.
//!
//! Lookout has none, so this is the design that ClickHouse asks for, held to the contract of
//! every backend. [`ClickHouseConfig`] says how to reach a server.
//!
//! # Tables
//!
//! Four, as Lookout has them: `job` by job id, `job_run` by (job id, run id), `job_spec` and
//! `job_error` by job id, in an Atomic database of their own.
//!
//! - **ReplacingMergeTree(version), whole rows.** An update reads the stored row, which the guard
//!   of terminal jobs needs anyway, and inserts the whole row again under a higher version. It is the oldest
//!   and most portable way: it replicates, it can be repeated without harm, and merges remove old
//!   versions in passing. Partial rows (CoalescingMergeTree) write faster, but read up to 25 times
//!   slower until they are merged, and cannot write a null back; an event log with `argMax` reads
//!   slower still, always.
//! - **Keys.** Everything that comes from Armada is about one job, and ids are ULIDs, so the jobs
//!   that a batch touches lie together at the end of the table. Granules of 1,024 rows instead of
//!   8,192 make look-ups by key cheaper and scans no dearer.
//! - **Runs by run id.** Updates of runs carry no job id. A minmax index on `run_id` leaves, for
//!   ids that grow with time, only the newest granules, and a bloom filter answers for any others.
//! - **Types.** LowCardinality for what repeats (queue, job set, owner, cluster, node, …), Enum8
//!   for states, with Lookout's ordinals, so that they order as the contract wants;
//!   DateTime64(6), whose range is 1900 to 2299, the contract's own; ZSTD where text does not
//!   repeat. Null texts are empty ones, which the contract never stores.
//! - **Annotations** are a map in the job's row, since they never change. A bloom filter over
//!   "key NUL value" leaves some hundredths of the granules for an exact match of a rare value,
//!   where a page would otherwise read the map of every job.
//! - **Latest runs** are joined when they are read. They may belong to another job and may come
//!   after the job's update, so a copy of them in the job's row would have to be kept right by
//!   look-ups in the other direction with every batch of runs. Filters on them become a set of run
//!   ids; groups by them are a join of all jobs with all runs, the dearest read there is
//!   (`setting.join_algorithm=full_sorting_merge` halves it where run ids grow with job ids).
//!
//! With `layout=patch` the tables are plain MergeTree and updates are lightweight ones
//! (`UPDATE`), which write patch parts of the changed columns and rows. It reads fastest, for
//! there is nothing to merge, but it is young (ClickHouse 25.7), and it is not replicated here. Inserts of jobs
//! and runs go through an entrance, a Null table with a materialized view, which leaves out ids that are there,
//! and carry tokens by which the server knows one that comes twice.
//!
//! # The marker
//!
//! A fifth table, `broadside_store`, says what the store is: its comment holds the layout, the version of the
//! schema, an id that no other store has, when it was made, and whether it is a scratch store. `connect` and
//! `initialise_schema` check it, and give `WrongStore` where it does not fit the address. Ingestion, population,
//! `set_property` and `tear_down` refuse tables without a marker, unless the address says `adopt=true`;
//! `initialise_schema` then gives them one. The rows of the table are the store's properties.
//!
//! # What holds, and how far
//!
//! - **Read-your-writes.** Inserts are synchronous (`async_insert = 0`), one part each whatever
//!   their size, so a read after them sees them, from every handle. On a cluster, inserts wait for
//!   all shards and a quorum of replicas, and reads ask for sequential consistency.
//! - **Atomicity.** One insert a table and batch, in the order specs, errors, runs, jobs; each is
//!   seen whole or not at all. If one fails, the earlier ones stay, and repeating the batch
//!   completes it. (`layout=patch` has two steps for `job_run` and for `job`: inserts, updates.)
//!   Once the first insert has begun, a batch goes to its end even if the caller's future is dropped.
//! - **Isolation of batches.** Among the handles of one process that lead to one store, known by its id and
//!   not by the address, batches that name a common job or run take turns; others run side by side. Processes
//!   are not kept apart: two that write must write different jobs, as Lookout's ingesters do, each of which has
//!   its own job sets.
//! - **Isolation of reads.** Reads wait for nothing and nothing waits for them. Each table is read as of one
//!   moment, so of a batch a read sees all rows of a table or none. Between tables it may see a batch half
//!   written: runs, specs and errors whose jobs have not changed yet. A page of jobs never shows it the other way
//!   round: it reads jobs first and their runs after, and a batch writes them in the other order, so the runs
//!   are at least as new as the jobs. A bound on versions, published by the writer, would not do better: a merge drops
//!   the version that a reader below the bound needs. Snapshots of several tables at once the engine has not.
//! - **Retries.** A request whose connection failed, or that the server was too busy for, is sent
//!   again, up to four times within about two seconds; one that ran out of time is not.
//! - **Profiles.** What a user's profile may set otherwise, and an answer relies on, is sent with every request.
//!   A user who may set nothing (`readonly=1`) is served where the profile has the right values, and refused
//!   where it has not.
//!
//! # Late writes
//!
//! A request that ran out of time, or whose process died, may still be on its way, and the server may execute
//! it after batches that came later; nothing bounds how much later. It must not undo them:
//!
//! - All rows of a batch have one version, from a clock that only grows (the module `version`), drawn after the
//!   batch's turn has come. So the order of versions is the order of batches, and a late row of a job that a
//!   later batch has written loses against it, whichever the server stored last. What a late write says
//!   of other jobs takes effect, as if its batch came then; its outcome was reported as unknown.
//! - The same holds for specs and errors, of which the first insert wins: if two batches insert the spec of one
//!   job because the first had not landed, the second, which was reported as done, stays.
//! - With `layout=patch` a late `UPDATE` leaves out rows of a higher version, and a late insert of an id that is
//!   there adds no row. One case is left to chance there: where an insert lands between the read and the
//!   insert of a later batch that inserts the same job, the row of the first stays.
//! - Historical jobs have the lowest version and leave out what is there when the server executes them, so they
//!   never replace anything, however late they come.
//! - A retry after a crash, by this process or another, reads what is stored and decides anew. Either the late
//!   write has landed, and there is nothing to do, or it has not, and loses to the retry.
//! - After a truncation a late write brings back the rows that it carries.
//!
//! # Clusters
//!
//! With `cluster=NAME` the tables are made ON CLUSTER: Replicated ones on every host, under
//! Distributed ones that spread rows by job id, so that a job, its runs and all their versions
//! stay on one shard. The statements are under snapshot tests; they have not been run against a
//! cluster by this project's tests, whose engine has none.

mod address;
mod builder;
mod change;
mod config;
mod connection;
mod database;
mod error;
mod explain;
mod historical;
mod ingest;
mod marker;
mod query;
mod row;
mod schema;
mod settings;
#[cfg(test)]
mod snapshots;
mod statement;
mod store;
mod turns;
mod version;

pub(crate) use self::address::URL_PREFIXES;
pub use self::config::{ClickHouseConfig, Compression};
pub use self::database::ClickHouseDatabase;
pub use self::schema::Layout;
