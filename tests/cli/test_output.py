import logging

from kilotune.cli.output import emit, log_on_stderr, note


def test_json_is_one_line_and_the_text_is_not_even_made(capsys):
    def text() -> str:
        raise AssertionError("made in vain")

    emit({"shape": (1, 2), "ok": True}, True, text)
    assert capsys.readouterr().out == '{"shape":[1,2],"ok":true}\n'


def test_text_goes_to_stdout_and_remarks_to_stderr(capsys):
    emit({}, False, lambda: "result")
    note("by the way")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("result\n", "kilotune: by the way\n")


def test_the_log_is_on_stderr_only_while_it_is_asked_for(capsys):
    logger = logging.getLogger("kilotune.test")
    level, logger.level = logger.level, logging.INFO
    with log_on_stderr():
        logger.info("inside")
    logger.info("outside")
    logger.setLevel(level)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "inside\n")
