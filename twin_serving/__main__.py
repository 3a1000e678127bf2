"""`python -m twin_serving`: the API of the settings file, until it is told to end."""

from twin_serving.server import main

main()
