-- Rows that were there before: how they ended and how far they are, from their status.
-- A row that holds only a late completion waits for its decision and is left alone.
UPDATE job_execute_snapshot
SET outcome  = CASE status WHEN 2 THEN 'succeeded' WHEN 3 THEN 'lost' WHEN 4 THEN 'failed' WHEN -1 THEN 'failed' END,
    progress = CASE WHEN status = 1 THEN 1 ELSE 3 END
WHERE progress = 0 AND late_outcome IS NULL;
