"""Questions, videos, scoring and judge of each benchmark: where a benchmark is added."""
