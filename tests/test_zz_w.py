def test_w(spark):
    from ampel_spark.settings import share_dir
    def f(it):
        from ampel_spark.errors import nearest
        nearest("abc", ["abd"])
        for b in it: yield b
    assert spark.range(10).mapInArrow(f, "id long").count()==10
