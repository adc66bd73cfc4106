"""A Griffe extension: the comment behind a field of a class is its documentation."""

import re

import griffe

COMMENT = re.compile(r"\s#\s(?P<text>.+)$")


class TrailingComments(griffe.Extension):
    def on_attribute_instance(self, *, attr, **_):
        if attr.docstring is None and attr.parent.is_class and attr.lineno == attr.endlineno:
            if found := COMMENT.search(attr.lines_collection[attr.filepath][attr.lineno - 1]):
                attr.docstring = griffe.Docstring(found["text"], lineno=attr.lineno, parent=attr)
