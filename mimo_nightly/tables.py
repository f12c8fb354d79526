"""SQL tables of a history: a row per run, per target in it, per stage of each file on a clip, per change of state."""

FORMAT = 3

TABLES = (
    """CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, config_sha256 TEXT NOT NULL
)""",
    """CREATE TABLE targets (
    run INTEGER NOT NULL REFERENCES runs, target TEXT NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL,
    state TEXT NOT NULL, scope TEXT NOT NULL, problems TEXT NOT NULL, files TEXT NOT NULL, versions TEXT NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (run, target)
)""",
    """CREATE TABLE stages (
    run INTEGER NOT NULL, target TEXT NOT NULL, file TEXT NOT NULL, clip TEXT NOT NULL, stage TEXT NOT NULL,
    role TEXT NOT NULL, kind TEXT NOT NULL,
    cos_mean REAL, cos_min REAL, rel_rmse REAL, agreement REAL, kl_mean REAL, error_rate REAL, passed INTEGER NOT NULL,
    PRIMARY KEY (run, target, file, clip, stage),
    FOREIGN KEY (run, target) REFERENCES targets
)""",
    """CREATE TABLE notifications (
    run INTEGER NOT NULL, target TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
    tried TEXT NOT NULL, failure TEXT NOT NULL, sent TEXT NOT NULL,
    PRIMARY KEY (run, target),
    FOREIGN KEY (run, target) REFERENCES targets
)""",
)
RUNS, TARGETS, STAGES, NOTIFICATIONS = TABLES
MOST_RUNS = 1 << 53
TIMES = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?"
TIME = "a time such as 2026-11-21T03:00:00Z"
INDEX = "CREATE INDEX runs_of_targets ON targets (target)"  # from there, the primary key of stages leads on
