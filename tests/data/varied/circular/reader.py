import circular.attribute

circular.attribute.VALUE
