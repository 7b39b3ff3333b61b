"""A demo on a real Label Studio, and the pieces that the end-to-end tests share with it.

Everything here talks to Label Studio and to our backend from outside, over HTTP and through the
``rarefirst`` command, as a user would. The truth about the images never leaves this package.
"""
