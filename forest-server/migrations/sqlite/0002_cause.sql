-- Which run of another job made a run, by its end.
ALTER TABLE job_execute_snapshot ADD COLUMN cause TEXT;
