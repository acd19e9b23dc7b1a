-- Who changed what. `document` is the whole record as JSON; the columns before it are what is searched by.
CREATE TABLE IF NOT EXISTS forest_audit (
    id       TEXT NOT NULL PRIMARY KEY,
    who      TEXT NOT NULL,
    action   TEXT NOT NULL,
    target   TEXT NOT NULL,
    `group`  TEXT NOT NULL,
    document TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS audit_of_who ON forest_audit (who, id);
CREATE INDEX IF NOT EXISTS audit_of_target ON forest_audit (target, id);
CREATE INDEX IF NOT EXISTS audit_of_group ON forest_audit (`group`, id);
