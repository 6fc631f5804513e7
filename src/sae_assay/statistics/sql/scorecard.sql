-- Verdicts D1-D5 (statistics.md, Scorecard). One row a substrate, metric, criterion and task kind.
WITH repeatable AS (
    SELECT
        'D1' AS criterion, cell_id, 'E rho^2 of a score at one seed' AS statistic, rho_1 AS estimate, rho_1_low AS low,
        rho_1_high AS high, n_saes AS n_units, behaviour IN ('seed_inert', 'seed_uncontrolled') AS barred,
        CASE behaviour
            WHEN 'seed_inert' THEN 'the evaluation seed moves nothing (seed_inert): no noise was measured'
            WHEN 'seed_uncontrolled' THEN 'scores move without the seed too (seed_uncontrolled): not reseed noise'
            ELSE generalisability.reason
        END AS reason
    FROM generalisability
    JOIN (SELECT cell_id, behaviour FROM seed_behaviour) USING (cell_id)
),

repeatable_mean AS (
    SELECT
        'D1n', g.cell_id, 'E rho^2 of the mean over ' || g.n_seeds || ' seeds', rho_n, rho_n_low, rho_n_high, g.n_saes,
        barred, r.reason
    FROM generalisability AS g
    JOIN repeatable AS r USING (cell_id)
),

discriminating AS (
    SELECT
        'D2', cell_id, 'decision accuracy with ' || p.truth, accuracy, low, high, n_runs, false, reason
    FROM decision_accuracy AS d
    JOIN primaries AS p ON p.metric = d.metric AND p.truth = d.truth
),

contrasts AS (
    SELECT
        c.*,
        CASE p.truth WHEN 'mcc' THEN truth_mcc ELSE truth_f1 END AS truth_contrast,
        CASE p.truth WHEN 'mcc' THEN truth_mcc_low ELSE truth_f1_low END AS truth_low
    FROM trajectory_contrast AS c
    JOIN primaries AS p USING (metric)
),

improving AS (
    SELECT
        'D3', cell_id, 'late third less early third of training', difference, low, high, n_runs, false,
        CASE
            WHEN reason IS NOT NULL THEN reason
            WHEN n_runs < 3 THEN 'fewer than 3 training runs'
            WHEN truth_contrast IS NULL THEN 'no truth here: assumes that training improves the SAE'
            WHEN truth_contrast <= 0 THEN 'the truth itself does not rise'
            WHEN truth_low <= 0 THEN 'whether the truth itself rises is not settled'
        END
    FROM contrasts
),

valid AS (
    SELECT
        'D4', cell_id, 'residual correlation with ' || p.truth, residual, residual_low, residual_high, n_cells, false,
        residual_reason
    FROM validity AS v
    JOIN primaries AS p ON p.metric = v.metric AND p.truth = v.truth
),

-- PASS: every margin's lower bound is above; FAIL: some simultaneous upper bound is below
sane AS (
    SELECT
        'D5', cell_id, 'smallest margin of base over control and of oracle over trained SAEs', min(difference), min(low),
        min(simultaneous_high), count(*), false,
        CASE WHEN count(low) < count(*) THEN 'a margin has no interval (one evaluation seed)' END
    FROM control_margins
    WHERE applicable
    GROUP BY cell_id
),

measured AS (
    SELECT * FROM repeatable
    UNION ALL SELECT * FROM repeatable_mean
    UNION ALL SELECT * FROM discriminating
    UNION ALL SELECT * FROM improving
    UNION ALL SELECT * FROM valid
    UNION ALL SELECT * FROM sane
),

-- a metric that a substrate lacks keeps one row that says so
asked AS (
    SELECT
        s.substrate, p.metric, p.component, c.hp_name, p.hp_value, coalesce(c.mode, p.mode) AS mode,
        coalesce(c.task_kind, '__all__') AS task_kind, p.truth, c.cell_id, k.cell_id IS NOT NULL AS has_in,
        q.criterion, q.title, q.threshold, q.least, q.nothing
    FROM (SELECT DISTINCT substrate FROM saes) AS s
    CROSS JOIN primaries AS p
    CROSS JOIN criteria AS q
    LEFT JOIN stg_cells AS c
        ON c.substrate = s.substrate AND c.metric = p.metric AND c.component = p.component
        AND c.hp_value IS NOT DISTINCT FROM p.hp_value AND (p.mode IS NULL OR c.mode = p.mode)
    LEFT JOIN stg_kinds AS k ON k.cell_id = c.cell_id
),

judged AS (
    SELECT
        a.*, m.statistic, m.estimate, m.low, m.high, m.n_units,
        CASE
            WHEN m.estimate IS NULL OR m.barred THEN 'NOT MEASURED'
            WHEN m.low IS NULL OR m.high IS NULL THEN 'INCONCLUSIVE'
            WHEN a.criterion = 'D3' AND n_units < a.least THEN 'INCONCLUSIVE'
            WHEN a.criterion = 'D3' AND m.reason LIKE '%the truth itself%' THEN 'INCONCLUSIVE'
        END AS barrier,
        CASE
            WHEN a.cell_id IS NULL THEN 'not scored on this substrate'
            WHEN m.estimate IS NULL THEN coalesce(m.reason, a.nothing)
            ELSE m.reason
        END AS reason
    FROM asked AS a
    LEFT JOIN measured AS m USING (criterion, cell_id)
),

verdicts AS (
    SELECT
        *,
        coalesce(barrier, verdict(low, high, threshold)) AS verdict,
        coalesce(barrier, verdict(low, high, 0.8 * threshold)) AS verdict_easier,
        -- a threshold that nothing could pass would say nothing: at most half-way to 1
        coalesce(barrier, verdict(low, high, least(1.2 * threshold, (1 + threshold) / 2))) AS verdict_harder
    FROM judged
)

SELECT
    substrate, metric, component, hp_name, hp_value, mode, task_kind,
    criterion <> 'D1n' AND (
        task_kind = '__all__' OR task_kind = CASE WHEN has_in THEN 'in' ELSE 'all' END
    ) AS headline,
    criterion, title, coalesce(statistic, title) AS statistic, truth, estimate, low, high, threshold,
    verdict, verdict_easier, verdict_harder, verdict_easier <> verdict OR verdict_harder <> verdict AS flips, n_units,
    CASE WHEN reason IS NULL AND verdict = 'INCONCLUSIVE' THEN 'the interval holds the threshold' ELSE reason END AS reason
FROM verdicts
ORDER BY substrate, metric, criterion, task_kind
