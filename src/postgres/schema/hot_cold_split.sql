-- Beside `job`, which now holds active jobs alone, a table of those that have ended.

CREATE TABLE job_historical (LIKE job INCLUDING ALL) WITH (fillfactor = 70);

CREATE VIEW job_all AS SELECT * FROM job UNION ALL SELECT * FROM job_historical;

WITH ended AS (DELETE FROM job WHERE state NOT IN (1, 2, 3, 8) RETURNING *)
INSERT INTO job_historical SELECT * FROM ended;
