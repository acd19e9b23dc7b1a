-- What became of the runs of each job, by the hour (UTC) in which they were created. Each decided row of the history
-- counts once, in the transaction that decides it.
CREATE TABLE IF NOT EXISTS forest_job_hour (
    job_id          TEXT    NOT NULL,
    hour            TEXT    NOT NULL,
    `group`         TEXT    NOT NULL,
    succeeded       INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0,
    timed_out       INTEGER NOT NULL DEFAULT 0,
    cancelled       INTEGER NOT NULL DEFAULT 0,
    lost            INTEGER NOT NULL DEFAULT 0,
    no_client       INTEGER NOT NULL DEFAULT 0,
    overlap_skipped INTEGER NOT NULL DEFAULT 0,
    misfire_skipped INTEGER NOT NULL DEFAULT 0,
    missed_fires    INTEGER NOT NULL DEFAULT 0,
    started         INTEGER NOT NULL DEFAULT 0,
    duration_ms     INTEGER NOT NULL DEFAULT 0,
    duration_100ms  INTEGER NOT NULL DEFAULT 0,
    duration_1s     INTEGER NOT NULL DEFAULT 0,
    duration_10s    INTEGER NOT NULL DEFAULT 0,
    duration_1m     INTEGER NOT NULL DEFAULT 0,
    duration_10m    INTEGER NOT NULL DEFAULT 0,
    delay_ms        INTEGER NOT NULL DEFAULT 0,
    delay_100ms     INTEGER NOT NULL DEFAULT 0,
    delay_1s        INTEGER NOT NULL DEFAULT 0,
    delay_10s       INTEGER NOT NULL DEFAULT 0,
    delay_1m        INTEGER NOT NULL DEFAULT 0,
    delay_10m       INTEGER NOT NULL DEFAULT 0,
    max_duration_ms INTEGER NOT NULL DEFAULT 0,
    max_delay_ms    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, hour, `group`)
);

CREATE INDEX IF NOT EXISTS hours ON forest_job_hour (hour);
CREATE INDEX IF NOT EXISTS hours_of_group ON forest_job_hour (`group`, hour);

-- The number of the save that was the first to decide a row, and so counted it.
ALTER TABLE job_execute_snapshot ADD COLUMN counted_by INTEGER NOT NULL DEFAULT 0;
