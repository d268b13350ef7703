"""The tables of the 2022 study's tool."""
