-- Who changed what. `document` is the whole record as JSON; the columns before it are what is searched by. The id
-- begins with the time, so that its order is that of time.
CREATE TABLE IF NOT EXISTS forest_audit (
    id       varchar(96) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    who      varchar(160) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    action   varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    target   varchar(160) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    `group`  varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    document mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (id),
    KEY audit_of_who (who, id),
    KEY audit_of_target (target, id),
    KEY audit_of_group (`group`, id)
) ENGINE = InnoDB;
