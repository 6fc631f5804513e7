-- Sets of SAEs that are compared: `panel` (trained, finished), `oracle` (the panel and the oracle), `trajectory`
-- (snapshots and the finished SAE of every training run that has snapshots). Recalibrated forms are no runs of their own:
-- counted beside the SAEs that they come from, they would narrow intervals over runs. Grain: comparison, substrate, sae_id.
WITH runs AS (
    SELECT *, split_part(sae_id, '.step_', 1) AS run_id FROM saes
),

snapshot_runs AS (
    SELECT DISTINCT substrate, run_id FROM runs WHERE panel = 'trajectory'
),

members AS (
    SELECT 'panel' AS comparison, * FROM runs WHERE panel = 'panel'
    UNION ALL
    SELECT 'oracle', * FROM runs WHERE panel = 'panel' OR control = 'oracle'
    UNION ALL
    SELECT 'trajectory', runs.*
    FROM runs
    JOIN snapshot_runs USING (substrate, run_id)
    WHERE panel IN ('trajectory', 'panel') AND step IS NOT NULL AND base_sae_id IS NULL
)

SELECT * FROM members ORDER BY comparison, substrate, sae_id
