-- The table as it was published. A database that has it already keeps it, with its rows.
CREATE TABLE IF NOT EXISTS job_execute_snapshot (
    id          varchar(64)  NOT NULL,
    job_id      varchar(32)  DEFAULT NULL,
    name        varchar(32)  DEFAULT NULL,
    `group`     varchar(32)  DEFAULT NULL,
    cron        varchar(32)  DEFAULT NULL,
    target      varchar(255) DEFAULT NULL,
    params      varchar(255) DEFAULT NULL,
    ip          varchar(32)  DEFAULT NULL,
    status      tinyint      DEFAULT NULL COMMENT '1-执行中 2-完成 3-未知 4-错误',
    mobile      varchar(32)  DEFAULT NULL,
    remark      varchar(255) DEFAULT NULL,
    create_time varchar(32)  DEFAULT NULL,
    start_time  varchar(255) DEFAULT NULL,
    finish_time varchar(32)  DEFAULT NULL,
    times       bigint       DEFAULT NULL,
    result      varchar(255) DEFAULT NULL,
    PRIMARY KEY (id),
    KEY ip (ip),
    KEY job_id (job_id),
    KEY status (status),
    KEY `group` (`group`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
