-- Moves terminal jobs from `job` to a table of their own; `job` keeps the active ones.

-- Waits for writers that know only `job`; later ones find the changed marker.
LOCK TABLE job IN ACCESS EXCLUSIVE MODE;

CREATE TABLE job_historical (LIKE job INCLUDING ALL EXCLUDING INDEXES, PRIMARY KEY (job_id)) WITH (fillfactor = 70);

{historical_indexes}

CREATE VIEW job_all AS SELECT {columns} FROM job UNION ALL SELECT {columns} FROM job_historical;

-- The two tables have the same columns now; one of them may get others later.
WITH ended AS (DELETE FROM job WHERE state NOT IN ({active}) RETURNING *)
INSERT INTO job_historical SELECT * FROM ended;
