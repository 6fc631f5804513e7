-- Where does reseed noise come from? Variance components of each source of randomness, the common shift and the relative noise
-- apart (sae_assay.anatomy). Grain: cell columns, part, source.
WITH cells AS (
    SELECT DISTINCT cell_id, substrate, metric, component, hp_name, hp_value, mode, task_kind FROM stg_anatomy_scores
),

single AS (
    SELECT DISTINCT substrate, moved AS source FROM points WHERE moved NOT IN ('start', 'resample')
),

whole AS (
    SELECT DISTINCT substrate, 'all' AS source FROM points
),

sources AS (
    SELECT substrate, source FROM single
    UNION ALL
    SELECT substrate, source FROM whole
),

wanted AS (
    SELECT c.*, s.source, p.part
    FROM cells AS c
    JOIN sources AS s USING (substrate)
    CROSS JOIN (VALUES ('common'), ('relative')) AS p (part)
),

components AS (
    SELECT
        w.*, q.n_saes, coalesce(q.n_blocks, 0) AS n_blocks, q.n_tasks, q.moved,
        CASE w.part WHEN 'common' THEN q.common - q.relative / q.n_saes ELSE q.relative END AS raw_variance,
        CASE w.part WHEN 'common' THEN q.top_common ELSE q.top_relative END AS top_block
    FROM wanted AS w
    LEFT JOIN stg_anatomy_squares AS q USING (cell_id, source)
),

-- greatest() of a null and 0 is 0
cut AS (
    SELECT *, CASE WHEN raw_variance IS NOT NULL THEN greatest(raw_variance, 0) END AS kept FROM components
),

totals AS (
    SELECT cell_id, part, sum(kept ORDER BY source) AS total, bool_and(n_blocks > 1) AS complete
    FROM cut
    WHERE source <> 'all'
    GROUP BY ALL
)

SELECT
    substrate, metric, component, hp_name, hp_value, mode, task_kind, part, source,
    n_saes, n_blocks, n_tasks,
    kept AS variance,
    raw_variance,
    sqrt(kept) AS sd,
    sqrt(CASE WHEN moved THEN l.low ELSE raw_variance END) AS sd_low,
    sqrt(CASE WHEN moved THEN l.high ELSE raw_variance END) AS sd_high,
    CASE WHEN source <> 'all' AND complete THEN ratio(kept, total) END AS share,
    CASE WHEN source <> 'all' AND complete AND total > 0 THEN CASE WHEN moved THEN l.share_low ELSE 0 END END AS share_low,
    CASE WHEN source <> 'all' AND complete AND total > 0 THEN CASE WHEN moved THEN l.share_high ELSE 0 END END AS share_high,
    CASE WHEN source = 'all' AND complete THEN ratio(total, kept) END AS additivity,
    top_block,
    CASE
        WHEN n_blocks = 0 THEN 'no block in which every SAE has a score at both points'
        WHEN n_blocks = 1 THEN 'one block'
        WHEN NOT moved THEN 'inert: no score moved when it alone was reseeded'
        WHEN raw_variance < 0 THEN 'no common shift beyond what the relative noise brings was seen'
        WHEN NOT complete THEN 'another source has no two blocks: no shares'
        WHEN total = 0 THEN 'no source has a variance above 0: no shares'
        WHEN source <> 'all' AND l.share_low IS NULL THEN 'the sum over sources may be 0: no interval of the share'
    END AS reason
FROM cut
JOIN totals USING (cell_id, part)
LEFT JOIN run_anatomy AS l USING (cell_id, part, source)
ORDER BY cell_id, part, source
