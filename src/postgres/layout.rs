//! The layouts of the tables: Lookout's, and two alternatives.

use std::collections::BTreeMap;

/// A layout of the tables. The semantics are the same in each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// Lookout's layout: all jobs in `job`.
    #[default]
    Lookout,
    /// Terminal jobs are moved from `job` to `job_historical`; the view `job_all` is the union of both. Columns that
    /// this backend does not use are not moved.
    HotColdSplit,
    /// `job` has a partition for each day of submission, so that a whole day can be dropped. The primary key of a
    /// partitioned table must contain the partition key, so the table `job_key` enforces the uniqueness of job ids. It
    /// also contains the submission time of each job.
    PartitionBySubmitted,
}

/// A change of the schema: its name and its statements.
pub(super) type Migration = (&'static str, &'static str);

const TABLES: Migration = ("tables", include_str!("schema/tables.sql"));
const JOB: Migration = ("job", include_str!("schema/job.sql"));
const JOB_INDEXES: Migration = ("job indexes", include_str!("schema/job_indexes.sql"));
const HOT_COLD_SPLIT: Migration = ("hot cold split", include_str!("schema/hot_cold_split.sql"));
const PARTITIONED_JOB: Migration = ("partitioned job", include_str!("schema/partitioned_job.sql"));

/// Inserts the ids of historical jobs into `job_key`.
const CLAIM: &str = "claimed AS (INSERT INTO job_key (job_id, submitted) SELECT job_id, submitted FROM made),";

/// The statements that create the indexes of `job_historical`: those of `job`.
pub(super) fn historical_indexes() -> String {
    JOB_INDEXES.1.replace("idx_job_", "idx_job_historical_").replace(" ON job ", " ON job_historical ")
}

/// The statement that moves the terminal jobs `j` which pass a condition to `job_historical`.
///
/// It moves all columns that both tables have when it is executed, also those of later versions of Lookout. The values
/// of generated columns cannot be inserted.
pub(super) fn move_jobs(using: &str, condition: &str) -> String {
    format!(
        "
DO $move$
DECLARE
    columns text;
BEGIN
    SELECT string_agg(quote_ident(j.attname), ', ') INTO columns
    FROM pg_attribute AS j JOIN pg_attribute AS h ON h.attname = j.attname AND h.atttypid = j.atttypid
    WHERE j.attrelid = 'job'::regclass AND h.attrelid = 'job_historical'::regclass
        AND j.attnum > 0 AND j.attgenerated = '' AND h.attgenerated = '';
    EXECUTE format($sql$
        WITH ended AS (
            DELETE FROM job AS j {using} WHERE {condition} AND j.state NOT IN ({{active}}) RETURNING j.*
        )
        INSERT INTO job_historical (%1$s) OVERRIDING SYSTEM VALUE SELECT %1$s FROM ended
    $sql$, columns);
END
$move$;"
    )
}

/// The relations that reads name: a table or a view, or a subquery that adds missing columns as nulls.
#[derive(Debug, Clone)]
pub(super) struct Relations {
    pub jobs: String,
    pub runs: String,
}

impl From<Layout> for Relations {
    fn from(layout: Layout) -> Self {
        Self { jobs: layout.all_jobs().to_owned(), runs: "job_run".to_owned() }
    }
}

impl Layout {
    /// The migrations of the layout, oldest first. A released migration never changes.
    pub(super) fn migrations(self) -> &'static [Migration] {
        match self {
            Self::Lookout => &[TABLES, JOB, JOB_INDEXES],
            Self::HotColdSplit => &[TABLES, JOB, JOB_INDEXES, HOT_COLD_SPLIT],
            Self::PartitionBySubmitted => &[TABLES, PARTITIONED_JOB, JOB_INDEXES],
        }
    }

    /// The name of the layout in markers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lookout => "lookout",
            Self::HotColdSplit => "hot_cold_split",
            Self::PartitionBySubmitted => "partition_by_submitted",
        }
    }

    /// The layout with a name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Lookout, Self::HotColdSplit, Self::PartitionBySubmitted].into_iter().find(|layout| layout.name() == name)
    }

    /// The version of the schema: the number of migrations.
    pub(super) fn version(self) -> String {
        self.migrations().len().to_string()
    }

    /// The table or view of all jobs.
    pub(super) fn all_jobs(self) -> &'static str {
        match self {
            Self::Lookout | Self::PartitionBySubmitted => "job",
            Self::HotColdSplit => "job_all",
        }
    }

    /// The table of terminal jobs.
    pub(super) fn ended_jobs(self) -> &'static str {
        match self {
            Self::Lookout | Self::PartitionBySubmitted => "job",
            Self::HotColdSplit => "job_historical",
        }
    }

    /// The statement that generates a chunk of historical jobs. Ids have the given collation.
    pub(super) fn historical_chunk(self, collation: &str) -> String {
        let (known_jobs, claimed) = match self {
            Self::Lookout => ("job", ""),
            Self::HotColdSplit => ("job_all", ""),
            Self::PartitionBySubmitted => ("job_key", CLAIM),
        };
        include_str!("historical/chunk.sql")
            .replace("{known_jobs}", known_jobs)
            .replace("{claimed}", claimed)
            .replace("{ended_jobs}", self.ended_jobs())
            .replace("{collation}", collation)
    }

    /// The statements that create the secondary indexes which a bulk load may drop, by name.
    pub(super) fn secondary_indexes(self) -> BTreeMap<String, String> {
        let historical = if self == Self::HotColdSplit { historical_indexes() } else { String::new() };
        let sources = [JOB_INDEXES.1.to_owned(), TABLES.1.to_owned(), historical];
        let statements = sources.iter().flat_map(|sql| sql.split(';'));
        let create = statements.filter_map(|text| text.find("CREATE INDEX ").map(|start| &text[start..]));
        create.filter_map(|create| Some((create.split_whitespace().nth(2)?.to_owned(), create.to_owned()))).collect()
    }

    /// The tables of the data. `job_deduplication` is that of Armada's server, and never filled by this backend.
    pub(super) fn tables(self) -> &'static str {
        match self {
            Self::Lookout => "job, job_run, job_spec, job_error",
            Self::HotColdSplit => "job, job_historical, job_run, job_spec, job_error",
            Self::PartitionBySubmitted => "job, job_key, job_run, job_spec, job_error",
        }
    }
}
