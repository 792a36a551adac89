"""promql-parser, as it is: what ``api/selectors.py`` refuses because the parser and Prometheus read it differently."""

import promql_parser


def test_escapes_are_checked_inside_backticks():
    r"""For Prometheus a backtick string is raw: `\d` is two characters, for the parser it is a mistake."""
    try:
        promql_parser.parse(r"x{code=~`\d`}")
    except ValueError as error:
        told = str(error)
    assert told == "unknown escape sequence 'd'", "fixed upstream: backticks are raw; their refusal may go"


def test_or_between_matchers_is_accepted():
    """Prometheus does not know it."""
    parsed = promql_parser.parse('x{a="1" or b="2"}')
    assert parsed.matchers.or_matchers, "fixed upstream: no 'or' between matchers; its refusal in parse_selector may go"
