-- What became of the runs of each job, by the hour (UTC) in which they were created. Each decided row of the history
-- counts once, in the transaction that decides it; rows from before this table are not counted.
-- Of a time in milliseconds there are the sum, the longest, and how many took at most 100 ms, 1 s, 10 s, 1 min and
-- 10 min but longer than the bound before; of the delay the same.
CREATE TABLE IF NOT EXISTS forest_job_hour (
    job_id          varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    hour            datetime    NOT NULL,
    `group`         varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    succeeded       bigint      NOT NULL DEFAULT 0,
    failed          bigint      NOT NULL DEFAULT 0,
    timed_out       bigint      NOT NULL DEFAULT 0,
    cancelled       bigint      NOT NULL DEFAULT 0,
    lost            bigint      NOT NULL DEFAULT 0,
    no_client       bigint      NOT NULL DEFAULT 0,
    overlap_skipped bigint      NOT NULL DEFAULT 0,
    misfire_skipped bigint      NOT NULL DEFAULT 0,
    missed_fires    bigint      NOT NULL DEFAULT 0,
    started         bigint      NOT NULL DEFAULT 0,
    duration_ms     bigint      NOT NULL DEFAULT 0,
    duration_100ms  bigint      NOT NULL DEFAULT 0,
    duration_1s     bigint      NOT NULL DEFAULT 0,
    duration_10s    bigint      NOT NULL DEFAULT 0,
    duration_1m     bigint      NOT NULL DEFAULT 0,
    duration_10m    bigint      NOT NULL DEFAULT 0,
    delay_ms        bigint      NOT NULL DEFAULT 0,
    delay_100ms     bigint      NOT NULL DEFAULT 0,
    delay_1s        bigint      NOT NULL DEFAULT 0,
    delay_10s       bigint      NOT NULL DEFAULT 0,
    delay_1m        bigint      NOT NULL DEFAULT 0,
    delay_10m       bigint      NOT NULL DEFAULT 0,
    max_duration_ms bigint      NOT NULL DEFAULT 0,
    max_delay_ms    bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, hour, `group`),
    KEY hours (hour),
    KEY hours_of_group (`group`, hour)
) ENGINE = InnoDB;

-- The number of the save that was the first to decide a row, and so counted it. It looks first whether the column is
-- there already, because a server may die between the change and the note that it is done.
SET @forest_counted = (
    SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'job_execute_snapshot' AND column_name = 'counted_by'
);
SET @forest_alter = IF(@forest_counted > 0, 'DO 0', 'ALTER TABLE job_execute_snapshot ADD COLUMN counted_by bigint NOT NULL DEFAULT 0');
PREPARE forest_alter FROM @forest_alter;
EXECUTE forest_alter;
DEALLOCATE PREPARE forest_alter;
