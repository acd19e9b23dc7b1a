-- The same columns as in MySQL. Instants are text, `yyyy-MM-dd HH:mm:ss.SSS` in UTC, which sorts by time.
CREATE TABLE job_execute_snapshot (
    id               TEXT    NOT NULL PRIMARY KEY,
    job_id           TEXT,
    name             TEXT,
    `group`          TEXT,
    cron             TEXT,
    target           TEXT,
    params           TEXT,
    ip               TEXT,
    status           INTEGER,
    mobile           TEXT,
    remark           TEXT,
    create_time      TEXT,
    start_time       TEXT,
    finish_time      TEXT,
    times            INTEGER,
    result           TEXT,
    outcome          TEXT,
    origin           TEXT,
    attempt          INTEGER NOT NULL DEFAULT 1,
    max_attempts     INTEGER NOT NULL DEFAULT 1,
    scheduled_at     TEXT,
    created_at       TEXT    NOT NULL DEFAULT '1970-01-01 00:00:00.000',
    started_at       TEXT,
    finished_at      TEXT,
    duration_ms      INTEGER NOT NULL DEFAULT 0,
    result_truncated INTEGER NOT NULL DEFAULT 0,
    missed_fires     INTEGER NOT NULL DEFAULT 0,
    job_version      INTEGER NOT NULL DEFAULT 0,
    node             TEXT,
    term             INTEGER NOT NULL DEFAULT 0,
    fencing_token    INTEGER NOT NULL DEFAULT 0,
    late_outcome     TEXT,
    late_result      TEXT,
    late_finished_at TEXT,
    progress         INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX recent ON job_execute_snapshot (created_at, id);
CREATE INDEX recent_of_job ON job_execute_snapshot (job_id, created_at, id);
CREATE INDEX recent_of_group ON job_execute_snapshot (`group`, created_at, id);
CREATE INDEX recent_of_client ON job_execute_snapshot (ip, created_at, id);
CREATE INDEX recent_of_outcome ON job_execute_snapshot (outcome, created_at, id);
CREATE INDEX recent_of_status ON job_execute_snapshot (status, created_at, id);
