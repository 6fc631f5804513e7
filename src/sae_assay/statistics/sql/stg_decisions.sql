-- Right and wrong orderings of a pair of runs, summed over steps and seeds: what the bootstrap over runs resamples.
-- Grain: question, cell_id, run_a, run_b. `score` counts right decisions (ties half) or significant pairs, `n` all of them.
WITH seed_scores AS (
    SELECT cell_id, sae_id, eval_seed, value FROM stg_two_way WHERE comparison = 'trajectory'
),

seed_differences AS (
    SELECT p.*, a.eval_seed, a.value - b.value AS at_seed
    FROM stg_pairs AS p
    JOIN seed_scores AS a ON a.cell_id = p.cell_id AND a.sae_id = p.sae_a
    JOIN seed_scores AS b ON b.cell_id = p.cell_id AND b.sae_id = p.sae_b AND b.eval_seed = a.eval_seed
),

references_ AS (
    SELECT cell_id, run_a, run_b, step, at_seed, 'mcc' AS question, difference_mcc AS reference
    FROM seed_differences
    WHERE abs(difference_mcc) > 2 * se_mcc
    UNION ALL
    SELECT cell_id, run_a, run_b, step, at_seed, 'f1', difference_f1
    FROM seed_differences
    WHERE abs(difference_f1) > 2 * se_f1
    UNION ALL
    SELECT cell_id, run_a, run_b, step, at_seed, 'self', (difference * n_seeds - at_seed) / (n_seeds - 1)
    FROM seed_differences
    WHERE n_seeds > 1
),

decisions AS (
    SELECT question, cell_id, run_a, run_b, sum((1 + sign(at_seed) * sign(reference)) / 2) AS score, count(*) AS n,
        count(DISTINCT step) AS n_pairs
    FROM references_
    GROUP BY question, cell_id, run_a, run_b
),

separations AS (
    SELECT 'separated' AS question, cell_id, run_a, run_b, CAST(count(*) FILTER (p < 0.05) AS DOUBLE) AS score,
        count(p) AS n, count(p) AS n_pairs
    FROM stg_pairs
    GROUP BY cell_id, run_a, run_b
    HAVING count(p) > 0
)

SELECT * FROM decisions UNION ALL SELECT * FROM separations ORDER BY question, cell_id, run_a, run_b
