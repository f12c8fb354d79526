"""Qwen3-ASR: conversion, proof and speed at the real size, and what its types cost."""
