"""Measurements of MiMo-Audio with its decoder: conversion, generation, codes to a wave."""
