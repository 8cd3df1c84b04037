"""The paper: its tables as data, how each row is run here, claimed beside measured."""
