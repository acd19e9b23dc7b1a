-- Which run of another job made a run, by its end. It looks first whether the column is there already, because a server
-- may die between the change and the note that it is done.
SET @forest_caused = (
    SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'job_execute_snapshot' AND column_name = 'cause'
);
SET @forest_alter = IF(@forest_caused > 0, 'DO 0', 'ALTER TABLE job_execute_snapshot ADD COLUMN cause varchar(64) NULL');
PREPARE forest_alter FROM @forest_alter;
EXECUTE forest_alter;
DEALLOCATE PREPARE forest_alter;
