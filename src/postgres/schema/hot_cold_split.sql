-- Moves terminal jobs from `job` to a table of their own; `job` keeps the active ones.

-- Waits for writers that know only `job`; later ones find the changed marker.
{limited_wait}
LOCK TABLE job IN ACCESS EXCLUSIVE MODE;

CREATE TABLE job_historical (LIKE job INCLUDING ALL EXCLUDING INDEXES, PRIMARY KEY (job_id)) WITH (fillfactor = 70);

{historical_indexes}

CREATE VIEW job_all AS SELECT {columns} FROM job UNION ALL SELECT {columns} FROM job_historical;

{move_jobs}
