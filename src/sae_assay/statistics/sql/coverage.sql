-- Planned cells, scored cells, and why rows have no number. One row a substrate, panel, metric and status.
WITH plans AS (
    SELECT substrate, panel, metric, count(*) AS n_planned, count(*) FILTER (n_rows > 0) AS n_scored
    FROM planned_cells
    GROUP BY ALL
),

reasons AS (
    SELECT substrate, panel, metric, CAST(status AS VARCHAR) AS status, reason, count(*) AS n_rows
    FROM scores
    GROUP BY ALL
),

statuses AS (
    SELECT
        substrate, panel, metric, status, CAST(sum(n_rows) AS BIGINT) AS n_rows, count(reason) AS n_reasons,
        first(reason ORDER BY n_rows DESC, reason) AS reason
    FROM reasons
    GROUP BY substrate, panel, metric, status
    UNION ALL
    SELECT substrate, panel, metric, 'missing', n_planned - n_scored, 1, 'planned and never scored'
    FROM plans
    WHERE n_planned > n_scored
)

SELECT
    substrate, panel, metric, n_planned, n_scored, status, n_rows,
    n_rows / sum(n_rows) OVER (PARTITION BY substrate, panel, metric) AS share, n_reasons, reason
FROM statuses
JOIN plans USING (substrate, panel, metric)
ORDER BY substrate, panel, metric, status
