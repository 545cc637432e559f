"""The stand-in encoder: a compact network of the Kronos family, trained here on the bars of a folder.

``python -m serving.kronos.training --help``. It answers where no published checkpoint was brought in, and says so.
"""
