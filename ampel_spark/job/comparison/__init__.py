"""Two runs compared, without Spark: who came, who went, why, and by how much numbers moved."""
