-- What reseeding one source changed in a block, per SAE; source `all`: the block's two ends. Grain: cell_id, source, block, sae_id.
WITH ends AS (
    SELECT substrate, block, max(step) AS last_step FROM points WHERE moved <> 'resample' GROUP BY ALL
),

moves AS (
    SELECT after.substrate, after.block, after.moved AS source, before.eval_seed AS first_point, after.eval_seed AS second_point
    FROM points AS after
    JOIN points AS before
        ON before.substrate = after.substrate AND before.block = after.block AND before.step = after.step - 1
    WHERE after.moved NOT IN ('start', 'resample')
    UNION ALL
    SELECT first.substrate, first.block, 'all', first.eval_seed, last.eval_seed
    FROM points AS first
    JOIN ends USING (substrate, block)
    JOIN points AS last ON last.substrate = first.substrate AND last.block = first.block AND last.step = ends.last_step
    WHERE first.step = 0
)

SELECT
    a.cell_id, m.source, m.block, a.sae_id,
    b.value - a.value AS difference,
    least(a.n_tasks, b.n_tasks) AS n_tasks
FROM moves AS m
JOIN stg_anatomy_points AS a ON a.substrate = m.substrate AND a.eval_seed = m.first_point
JOIN stg_anatomy_points AS b ON b.cell_id = a.cell_id AND b.sae_id = a.sae_id AND b.eval_seed = m.second_point
ORDER BY a.cell_id, m.source, m.block, a.sae_id
