-- Mean squares of the mean over SAEs (common) and around it (relative), as variances of one score. Grain: cell_id, source.
-- Source `resample`: resamplings around their block's mean, not differences.
WITH panels AS (
    SELECT cell_id, count(DISTINCT sae_id) AS n_saes FROM stg_anatomy_scores GROUP BY cell_id
),

step_means AS (
    SELECT cell_id, source, block, avg(difference ORDER BY sae_id) AS shift, min(n_tasks) AS n_tasks
    FROM stg_anatomy_steps
    GROUP BY ALL
),

step_blocks AS (
    SELECT
        s.cell_id, s.source, s.block, m.shift, m.n_tasks,
        m.shift * m.shift / 2 AS common,
        sum((s.difference - m.shift) * (s.difference - m.shift) ORDER BY s.sae_id) / (2 * (max(n_saes) - 1)) AS relative,
        CAST(1 AS BIGINT) AS df,
        max(abs(s.difference)) > 0 AS moved
    FROM stg_anatomy_steps AS s
    JOIN step_means AS m USING (cell_id, source, block)
    JOIN panels USING (cell_id)
    GROUP BY ALL
),

resampled AS (
    SELECT v.cell_id, p.block, v.sae_id, v.eval_seed, v.value, v.n_tasks
    FROM points AS p
    JOIN stg_anatomy_points AS v ON v.substrate = p.substrate AND v.eval_seed = p.eval_seed
    WHERE p.moved = 'resample'
),

sae_means AS (
    SELECT cell_id, block, sae_id, avg(value ORDER BY eval_seed) AS sae_mean FROM resampled GROUP BY ALL
),

replicates AS (
    SELECT
        cell_id, block, eval_seed,
        avg(value - sae_mean ORDER BY sae_id) AS shift,
        min(n_tasks) AS n_tasks
    FROM resampled
    JOIN sae_means USING (cell_id, block, sae_id)
    GROUP BY ALL
),

spread AS (
    SELECT
        r.cell_id, r.block, r.eval_seed, p.shift, p.n_tasks,
        sum(pow(r.value - s.sae_mean - p.shift, 2) ORDER BY r.sae_id) / (max(n_saes) - 1) AS relative
    FROM resampled AS r
    JOIN sae_means AS s USING (cell_id, block, sae_id)
    JOIN replicates AS p USING (cell_id, block, eval_seed)
    JOIN panels USING (cell_id)
    GROUP BY ALL
),

resample_blocks AS (
    SELECT
        cell_id, 'resample' AS source, block, min(n_tasks) AS n_tasks,
        sum(shift * shift ORDER BY eval_seed) AS common,
        sum(relative ORDER BY eval_seed) AS relative,
        count(*) - 1 AS df,
        true AS moved
    FROM spread
    GROUP BY ALL
    HAVING count(*) > 1
),

blocks AS (
    SELECT cell_id, source, block, n_tasks, common, relative, df, moved FROM step_blocks
    UNION ALL
    SELECT cell_id, source, block, n_tasks, common, relative, df, moved FROM resample_blocks
)

SELECT
    cell_id, source, n_saes,
    count(*) AS n_blocks,
    CAST(sum(df) AS BIGINT) AS df,
    min(n_tasks) AS n_tasks,
    sum(common ORDER BY block) / sum(df) AS common,
    sum(relative ORDER BY block) / sum(df) AS relative,
    ratio(max(common), sum(common ORDER BY block)) AS top_common,
    ratio(max(relative), sum(relative ORDER BY block)) AS top_relative,
    bool_or(moved) AS moved
FROM blocks
JOIN panels USING (cell_id)
GROUP BY cell_id, source, n_saes
ORDER BY cell_id, source
