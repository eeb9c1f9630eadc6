-- Beside `job`, which now holds active jobs alone, a table of those that have ended.

-- Whoever writes jobs as they were laid out before has done so or finds the store changed.
LOCK TABLE job IN ACCESS EXCLUSIVE MODE;

CREATE TABLE job_historical (LIKE job INCLUDING ALL) WITH (fillfactor = 70);

CREATE VIEW job_all AS SELECT * FROM job UNION ALL SELECT * FROM job_historical;

WITH ended AS (DELETE FROM job WHERE state NOT IN (1, 2, 3, 8) RETURNING *)
INSERT INTO job_historical SELECT * FROM ended;
