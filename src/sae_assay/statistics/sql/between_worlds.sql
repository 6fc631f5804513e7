-- Do verdicts hold in other worlds of one recipe (statistics.md, Scorecard)? One row a family of worlds, metric, criterion and
-- task kind: the worlds' estimates as a sample, with Student's interval for their mean.
WITH training_seeds AS (
    SELECT substrate, count(DISTINCT training_seed) AS n_training_seeds
    FROM saes
    WHERE panel = 'panel'
    GROUP BY substrate
),

estimates AS (
    SELECT
        f.family, s.metric, s.component, s.hp_name, s.hp_value, s.mode, s.task_kind, s.headline, s.criterion, s.title, s.truth,
        s.threshold, s.substrate, s.verdict, t.n_training_seeds,
        CASE WHEN s.verdict <> 'NOT MEASURED' THEN s.estimate END AS estimate
    FROM scorecard AS s
    JOIN families AS f USING (substrate)
    JOIN training_seeds AS t USING (substrate)
),

summed AS (
    SELECT
        family, metric, component, hp_name, hp_value, mode, task_kind, headline, criterion, title, truth, threshold,
        count(*) AS n_worlds,
        count(estimate) AS n_measured,
        min(n_training_seeds) AS n_training_seeds,
        count(*) FILTER (verdict = 'PASS') AS n_pass,
        count(*) FILTER (verdict = 'FAIL') AS n_fail,
        avg(estimate ORDER BY substrate) AS mean,
        min(estimate) AS lowest,
        max(estimate) AS highest,
        exact_sd(estimate, substrate) AS sd_between
    FROM estimates
    GROUP BY ALL
),

limits AS (
    SELECT
        *,
        mean - t_quantile(0.975, n_measured - 1) * sd_between / sqrt(n_measured) AS low,
        mean + t_quantile(0.975, n_measured - 1) * sd_between / sqrt(n_measured) AS high,
        CASE
            WHEN n_measured = 0 THEN 'measured in no world'
            WHEN n_worlds < 3 THEN 'fewer than 3 world seeds'
            WHEN n_training_seeds < 3 THEN 'fewer than 3 training seeds'
            WHEN n_measured < n_worlds THEN 'not measured in every world'
        END AS barrier
    FROM summed
)

SELECT
    family, metric, component, hp_name, hp_value, mode, task_kind, headline, criterion, title, truth,
    n_worlds, n_measured, n_training_seeds, n_pass, n_fail, mean, low, high, sd_between, lowest, highest, threshold,
    CASE
        WHEN n_measured = 0 THEN 'NOT MEASURED'
        WHEN barrier IS NOT NULL THEN 'INCONCLUSIVE'
        ELSE verdict(low, high, threshold)
    END AS verdict,
    CASE
        WHEN barrier IS NOT NULL THEN barrier
        WHEN low <= threshold AND high >= threshold THEN 'the interval holds the threshold'
    END AS reason
FROM limits
ORDER BY family, metric, criterion, task_kind
