"""A Griffe extension: a record's documentation lists its fields, with the comment behind each."""

import re

import griffe

COMMENT = re.compile(r"\s#\s(?P<text>.+)$")


class RecordFields(griffe.Extension):
    def on_class(self, *, cls, **_):
        fields = [
            griffe.DocstringAttribute(name, annotation=field.annotation, description=comment(field))
            for name, field in cls.members.items()
            if field.is_attribute
            and field.annotation is not None
            and not field.docstring
            and "property" not in field.labels
        ]
        if fields and cls.docstring and not cls.is_private:
            cls.docstring.parsed.append(griffe.DocstringSectionAttributes(fields))


def comment(field):
    """The comment behind the last line of a field; empty without one."""
    found = COMMENT.search(field.lines_collection[field.filepath][field.endlineno - 1])
    return found["text"] if found else ""
