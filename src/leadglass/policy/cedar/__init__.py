"""What the policies say about people, as data: the schema, what each role may, and what nobody may. `evaluation.py` asks them."""
