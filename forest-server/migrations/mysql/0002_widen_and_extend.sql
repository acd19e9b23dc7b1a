-- Room for what the published columns were too narrow for, and columns and indexes beside them.
--
-- One ALTER, because it is atomic and copies a large table once. A server that dies between it and the
-- note that it is done runs this file again, so it looks first whether the last column is there already.
-- The collation is binary: ids and names that differ only in case are different.
-- Instants are UTC. created_at is never NULL, so that paging by it needs no special case; 1970 means unknown.
SET @forest_extended = (
    SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'job_execute_snapshot' AND column_name = 'progress'
);
SET @forest_alter = IF(@forest_extended > 0, 'DO 0', 'ALTER TABLE job_execute_snapshot
    CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    MODIFY COLUMN job_id varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN name varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN `group` varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN cron varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN target varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN params mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN ip varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN mobile varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN remark varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    MODIFY COLUMN result mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    ADD COLUMN outcome varchar(32) NULL,
    ADD COLUMN origin varchar(16) NULL,
    ADD COLUMN attempt int NOT NULL DEFAULT 1,
    ADD COLUMN max_attempts int NOT NULL DEFAULT 1,
    ADD COLUMN scheduled_at datetime(3) NULL,
    ADD COLUMN created_at datetime(3) NOT NULL DEFAULT ''1970-01-01 00:00:00.000'',
    ADD COLUMN started_at datetime(3) NULL,
    ADD COLUMN finished_at datetime(3) NULL,
    ADD COLUMN duration_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN result_truncated tinyint NOT NULL DEFAULT 0,
    ADD COLUMN missed_fires bigint NOT NULL DEFAULT 0,
    ADD COLUMN job_version bigint NOT NULL DEFAULT 0,
    ADD COLUMN node varchar(64) NULL,
    ADD COLUMN term bigint NOT NULL DEFAULT 0,
    ADD COLUMN fencing_token bigint NOT NULL DEFAULT 0,
    ADD COLUMN late_outcome varchar(32) NULL,
    ADD COLUMN late_result mediumtext NULL,
    ADD COLUMN late_finished_at datetime(3) NULL,
    ADD COLUMN progress tinyint NOT NULL DEFAULT 0,
    ADD INDEX recent (created_at, id),
    ADD INDEX recent_of_job (job_id, created_at, id),
    ADD INDEX recent_of_group (`group`, created_at, id),
    ADD INDEX recent_of_client (ip, created_at, id),
    ADD INDEX recent_of_status (status, created_at, id),
    ADD INDEX recent_of_outcome (outcome, created_at, id)
');
PREPARE forest_alter FROM @forest_alter;
EXECUTE forest_alter;
DEALLOCATE PREPARE forest_alter;
